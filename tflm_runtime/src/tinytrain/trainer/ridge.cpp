#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/trainer/ridge.h"

#include <cstring>

#include "tinytrain/memory/memory.h"
#include "tinytrain/numerics/math.h"
#include "tinytrain/trainer/ridge_rows.h"
#include "tinytrain_flash.h"

namespace tinytrain {
namespace {

struct Axis {
  std::int32_t stride, window, positions;

  explicit Axis(std::int32_t size)
      : stride(size < kMapPositions ? 1 : size / kMapPositions),
        window(size - (kMapPositions - 1) * stride < 1 ? 1 : size - (kMapPositions - 1) * stride),
        positions((size - window) / stride + 1) {}
};

// The nearest integer to sum / count for sums of int8, half up, at least -127.
std::int8_t RoundedMean(std::int32_t sum, std::int32_t count) {
  const std::int32_t from_zero = sum + 128 * count;
  return AtLeast127((2 * from_zero + count) / (2 * count) - 128);
}

// Element (i, j) of a lower triangle, j <= i.
double& At(double* triangle, std::int32_t i, std::int32_t j) { return triangle[i * (i + 1) / 2 + j]; }

void Centre(std::int8_t* centre, const Rows& rows, std::int32_t num_elements) {
  for (std::int32_t d = 0; d < num_elements; ++d) {
    std::int32_t sum = 0;
    for (std::int32_t i = 0; i < rows.count; ++i) sum += rows.At(i)[d];
    centre[d] = RoundedMean(sum, rows.count);
  }
}

// Adds Z_p Z_p^T / P of one part, which begins at `first` in each row.
void AddGram(double* matrix, double* inverse_lengths, const Rows& rows, const std::int8_t* centre, std::int32_t first,
             std::int32_t size, double share) {
  const FromCentre origin = {centre};
  for (std::int32_t i = 0; i < rows.count; ++i) {
    const std::int8_t* const row = rows.At(i) + first;
    inverse_lengths[i] = InverseLength(row, origin, size);
    for (std::int32_t j = 0; j <= i; ++j) {
      const auto dot = static_cast<double>(Dot(row, rows.At(j) + first, origin, size));
      At(matrix, i, j) += share * (dot * inverse_lengths[i] * inverse_lengths[j]);
    }
  }
}

// A symmetric, positive definite matrix becomes L with L L^T equal to it.
void Cholesky(double* matrix, std::int32_t n) {
  for (std::int32_t i = 0; i < n; ++i) {
    for (std::int32_t j = 0; j <= i; ++j) {
      double rest = At(matrix, i, j);
      for (std::int32_t k = 0; k < j; ++k) rest -= At(matrix, i, k) * At(matrix, j, k);
      At(matrix, i, j) = i == j ? Root(rest) : rest / At(matrix, j, j);
    }
  }
}

// L becomes its inverse, column by column.
void InvertTriangle(double* matrix, std::int32_t n) {
  for (std::int32_t j = 0; j < n; ++j) {
    At(matrix, j, j) = 1.0 / At(matrix, j, j);
    for (std::int32_t i = j + 1; i < n; ++i) {
      double sum = 0.0;
      for (std::int32_t k = j; k < i; ++k) sum -= At(matrix, i, k) * At(matrix, k, j);
      At(matrix, i, j) = sum / At(matrix, i, i);
    }
  }
}

double Target(const RidgeTask& task, std::int32_t i, std::int32_t k) {
  return (task.Label(i) == k ? 1.0 : 0.0) - 1.0 / static_cast<double>(task.num_present);
}

// Column k of A = L^-T (L^-1 Y), with L^-1 in `inverse`.
void SolveColumn(double* weights, double* inverse, const RidgeTask& task, std::int32_t k) {
  const std::int32_t n = task.rows.count, stride = task.num_targets;
  double* const column = weights + k;
  for (std::int32_t i = 0; i < n; ++i) {
    double sum = 0.0;
    for (std::int32_t j = 0; j <= i; ++j) sum += At(inverse, i, j) * Target(task, j, k);
    column[i * stride] = sum;
  }
  for (std::int32_t i = 0; i < n; ++i) {
    double sum = 0.0;
    for (std::int32_t r = i; r < n; ++r) sum += At(inverse, r, i) * column[r * stride];
    column[i * stride] = sum;
  }
}

// scores of row i without it: Y_i - A_i / [(K + lambda I)^-1]_ii
void LeaveOut(const RidgeTask& task, const RidgeWork& work) {
  for (std::int32_t i = 0; i < task.rows.count; ++i) {
    double own = 0.0;
    for (std::int32_t r = i; r < task.rows.count; ++r) own += At(work.matrix, r, i) * At(work.matrix, r, i);
    for (std::int32_t k = 0; k < task.num_targets; ++k) {
      const std::int32_t at = i * task.num_targets + k;
      const bool is_absent = task.num_present < task.num_targets && task.Count(k) == 0;
      work.leave_one_out[at] = is_absent ? kAbsentScore : static_cast<float>(Target(task, i, k) - work.weights[at] / own);
    }
  }
}

}  // namespace

std::int8_t AtLeast127(std::int32_t value) { return static_cast<std::int8_t>(value < -127 ? -127 : value); }

std::int32_t RowParts::Total() const {
  std::int32_t total = 0;
  for (std::int32_t p = 0; p < count; ++p) total += sizes[p];
  return total;
}

std::int32_t PooledElements(const Tensor& map) { return Axis(map.height).positions * Axis(map.width).positions * map.channels; }

void PoolMap(std::int8_t* pooled, const std::int8_t* values, const Tensor& map) {
  const Axis rows(map.height), columns(map.width);
  for (std::int32_t y = 0; y < rows.positions; ++y) {
    for (std::int32_t x = 0; x < columns.positions; ++x) {
      for (std::int32_t c = 0; c < map.channels; ++c) {
        std::int32_t sum = 0;
        for (std::int32_t i = y * rows.stride; i < y * rows.stride + rows.window; ++i) {
          for (std::int32_t j = x * columns.stride; j < x * columns.stride + columns.window; ++j) {
            sum += values[(i * map.width + j) * map.channels + c];
          }
        }
        *pooled++ = RoundedMean(sum, rows.window * columns.window);
      }
    }
  }
}

std::int32_t RidgeTask::Count(std::int32_t label) const {
  std::int32_t count = 0;
  for (std::int32_t i = 0; i < rows.count; ++i) count += Label(i) == label ? 1 : 0;
  return count;
}

void RidgeTask::CountTargets(std::int32_t num_classes) {
  num_targets = num_classes + (Count(num_classes) > 0 ? 1 : 0);
  num_present = 0;
  for (std::int32_t k = 0; k < num_targets; ++k) num_present += Count(k) > 0 ? 1 : 0;
}

std::size_t RidgeWorkBytes(std::int32_t num_rows, std::int32_t num_parts, std::int32_t num_targets) {
  const auto n = static_cast<std::size_t>(num_rows);
  const auto targets = static_cast<std::size_t>(num_targets), parts = static_cast<std::size_t>(num_parts);
  const std::size_t num_doubles = n * (n + 1) / 2 + n * (targets + parts);
  return RoundUpTo(kArenaAlignment,
                   num_doubles * sizeof(double) + n * (targets + 1) * sizeof(float) + n * sizeof(std::uint16_t));
}

RidgeWork CutRidgeWork(std::uint8_t* memory, std::int32_t num_rows, std::int32_t num_parts, std::int32_t num_targets) {
  const auto n = static_cast<std::size_t>(num_rows), targets = static_cast<std::size_t>(num_targets);
  RidgeWork work{};
  work.matrix = static_cast<double*>(static_cast<void*>(memory));
  work.weights = work.matrix + n * (n + 1) / 2;
  work.inverse_lengths = work.weights + n * targets;
  void* const floats = work.inverse_lengths + n * static_cast<std::size_t>(num_parts);
  work.leave_one_out = static_cast<float*>(floats);
  work.coefficients = work.leave_one_out + n * targets;
  void* const places = work.coefficients + n;
  work.order = static_cast<std::uint16_t*>(places);
  return work;
}

void SolveRidge(const RidgeTask& task, const RowParts& parts, std::int8_t* centre, const RidgeWork& work) {
  const std::int32_t n = task.rows.count;
  Centre(centre, task.rows, parts.Total());
  for (std::int32_t i = 0; i < n; ++i) {
    for (std::int32_t j = 0; j <= i; ++j) At(work.matrix, i, j) = i == j ? kRidge : 0.0;
  }
  std::int32_t first = 0;
  for (std::int32_t p = 0; p < parts.count; first += parts.sizes[p++]) {
    AddGram(work.matrix, work.inverse_lengths + p * n, task.rows, centre + first, first, parts.sizes[p],
            1.0 / static_cast<double>(parts.count));
  }
  Cholesky(work.matrix, n);
  InvertTriangle(work.matrix, n);
  for (std::int32_t k = 0; k < task.num_targets; ++k) SolveColumn(work.weights, work.matrix, task, k);
  LeaveOut(task, work);
}

void QuantizeTarget(const RidgeTask& task, const RowParts& parts, const std::int8_t* centre, const RidgeWork& work,
                    std::int32_t k, std::int8_t* values, std::int32_t* scale) {
  const std::int32_t n = task.rows.count;
  const double share = 1.0 / Root(static_cast<double>(parts.count));
  const auto fill = [&](std::int32_t p, std::int32_t) {
    for (std::int32_t i = 0; i < n; ++i) {
      const double weight = share * work.weights[i * task.num_targets + k];
      work.coefficients[i] = static_cast<float>(weight * work.inverse_lengths[p * n + i]);
    }
  };
  const auto origin = [&](std::int32_t, std::int32_t first) { return FromCentre{centre + first}; };
  *scale = 0;
  std::memset(values, 0, static_cast<std::size_t>(parts.Total()));
  if (task.Count(k) > 0) QuantizeRow(task.rows, parts, origin, work.coefficients, fill, values, scale);
}

void RidgeScores(float* scores, const std::int8_t* row, const RowParts& parts, std::int32_t num_classes,
                 const RidgeWeights& learned) {
  const auto row_of = [&](std::int32_t k) { return learned.values + static_cast<std::size_t>(k) * learned.stride; };
  const std::int8_t* const centre = row_of(num_classes);
  for (std::int32_t k = 0; k < num_classes; ++k) scores[k] = learned.scales[k] > 0 ? 0.0f : kAbsentScore;
  std::int32_t first = 0;
  for (std::int32_t p = 0; p < parts.count; first += parts.sizes[p++]) {
    const FromCentre origin = {centre + first};
    const std::int32_t size = parts.sizes[p];
    const std::int32_t squares = Dot(row + first, row + first, origin, size);
    if (squares == 0) continue;  // no direction: z = 0
    const float inverse_length = 1.0f / SquareRoot(static_cast<float>(squares) * static_cast<float>(parts.count));
    for (std::int32_t k = 0; k < num_classes; ++k) {
      const std::int32_t dot = DotWeights(row + first, row_of(k) + first, origin, size);
      scores[k] += static_cast<float>(learned.scales[k]) * kRidgeScaleUnit * static_cast<float>(dot) * inverse_length;
    }
  }
}

}  // namespace tinytrain
