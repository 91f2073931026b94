#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/trainer/ridge.h"

#include "tinytrain/memory/memory.h"
#include "tinytrain/numerics/math.h"
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

// The square root of x >= 0 in double: that of the nearest float, and one step of Newton's.
double Root(double x) {
  const auto near = static_cast<double>(SquareRoot(static_cast<float>(x)));
  return near > 0.0 ? 0.5 * (near + x / near) : 0.0;
}

// Element (i, j) of a lower triangle, j <= i.
double& At(double* triangle, std::int32_t i, std::int32_t j) { return triangle[i * (i + 1) / 2 + j]; }

// sum over a part of (a - c) (b - c)
std::int32_t CentredDot(const std::int8_t* a, const std::int8_t* b, const std::int8_t* centre, std::int32_t count) {
  std::int32_t sum = 0;
  for (std::int32_t d = 0; d < count; ++d) sum += (a[d] - centre[d]) * (b[d] - centre[d]);
  return sum;
}

std::int32_t CentredDotWeights(const std::int8_t* x, const std::int8_t* weights, const std::int8_t* centre,
                               std::int32_t count) {
  std::int32_t sum = 0;
  for (std::int32_t d = 0; d < count; ++d) sum += (x[d] - centre[d]) * weights[d];
  return sum;
}

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
  for (std::int32_t i = 0; i < rows.count; ++i) {
    const std::int8_t* const row = rows.At(i) + first;
    const double length = Root(static_cast<double>(CentredDot(row, row, centre, size)));
    inverse_lengths[i] = length > 0.0 ? 1.0 / length : 0.0;
    for (std::int32_t j = 0; j <= i; ++j) {
      const auto dot = static_cast<double>(CentredDot(row, rows.At(j) + first, centre, size));
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

double Target(const std::uint8_t* labels, std::int32_t i, std::int32_t k, std::int32_t num_classes) {
  return (labels[i] == k ? 1.0 : 0.0) - 1.0 / static_cast<double>(num_classes);
}

// Column k of A = L^-T (L^-1 Y), with L^-1 in `inverse`.
void SolveColumn(double* weights, double* inverse, const std::uint8_t* labels, std::int32_t n, std::int32_t k,
                 std::int32_t num_classes) {
  double* const column = weights + k;
  for (std::int32_t i = 0; i < n; ++i) {
    double sum = 0.0;
    for (std::int32_t j = 0; j <= i; ++j) sum += At(inverse, i, j) * Target(labels, j, k, num_classes);
    column[i * num_classes] = sum;
  }
  for (std::int32_t i = 0; i < n; ++i) {
    double sum = 0.0;
    for (std::int32_t r = i; r < n; ++r) sum += At(inverse, r, i) * column[r * num_classes];
    column[i * num_classes] = sum;
  }
}

// scores of row i without it: Y_i - A_i / [(K + lambda I)^-1]_ii
void LeaveOut(const RidgeWork& work, const std::uint8_t* labels, std::int32_t n, std::int32_t num_classes) {
  for (std::int32_t i = 0; i < n; ++i) {
    double own = 0.0;
    for (std::int32_t r = i; r < n; ++r) own += At(work.matrix, r, i) * At(work.matrix, r, i);
    for (std::int32_t k = 0; k < num_classes; ++k) {
      const std::int32_t at = i * num_classes + k;
      work.leave_one_out[at] = static_cast<float>(Target(labels, i, k, num_classes) - work.weights[at] / own);
    }
  }
}

// Calls use(d, W_kd) for each element of a row.
template <typename Use>
void ForEachWeight(const Rows& rows, const RowParts& parts, const std::int8_t* centre, const RidgeWork& work, std::int32_t k,
                   std::int32_t num_classes, Use use) {
  const double share = 1.0 / Root(static_cast<double>(parts.count));
  std::int32_t d = 0;
  for (std::int32_t p = 0; p < parts.count; ++p) {
    for (std::int32_t i = 0; i < rows.count; ++i) {
      const double length = work.inverse_lengths[p * rows.count + i];
      work.coefficients[i] = static_cast<float>(share * work.weights[i * num_classes + k] * length);
    }
    for (const std::int32_t end = d + parts.sizes[p]; d < end; ++d) {
      float sum = 0.0f;
      for (std::int32_t i = 0; i < rows.count; ++i) sum += work.coefficients[i] * static_cast<float>(rows.At(i)[d] - centre[d]);
      use(d, sum);
    }
  }
}

// W of class k as int8: computed twice, for its largest value and for all of them.
void QuantizeClass(const RidgeSpace& learned, const Rows& rows, const RowParts& parts, const RidgeWork& work, std::int32_t k,
                   std::int32_t num_classes) {
  const std::int32_t total = parts.Total();
  const std::int8_t* const centre = learned.values + num_classes * total;
  float largest = 0.0f;
  ForEachWeight(rows, parts, centre, work, k, num_classes, [&](std::int32_t, float w) {
    const float size = w < 0.0f ? -w : w;
    largest = size > largest ? size : largest;
  });
  const auto scale = static_cast<std::int32_t>(RoundToEven(largest / (127.0f * kRidgeScaleUnit)));
  learned.scales[k] = scale > 0 ? scale : 1;
  const float inverse = 1.0f / (static_cast<float>(learned.scales[k]) * kRidgeScaleUnit);
  std::int8_t* const values = learned.values + k * total;
  ForEachWeight(rows, parts, centre, work, k, num_classes, [&](std::int32_t d, float w) {
    const float q = RoundToEven(w * inverse);
    values[d] = static_cast<std::int8_t>(q > 127.0f ? 127.0f : q < -127.0f ? -127.0f : q);
  });
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

std::size_t RidgeWorkBytes(std::int32_t num_rows, std::int32_t num_parts, std::int32_t num_classes) {
  const auto n = static_cast<std::size_t>(num_rows);
  const auto classes = static_cast<std::size_t>(num_classes), parts = static_cast<std::size_t>(num_parts);
  const std::size_t num_doubles = n * (n + 1) / 2 + n * (classes + parts);
  return RoundUpTo(kArenaAlignment, num_doubles * sizeof(double) + n * (classes + 1) * sizeof(float));
}

RidgeWork CutRidgeWork(std::uint8_t* memory, std::int32_t num_rows, std::int32_t num_parts, std::int32_t num_classes) {
  const auto n = static_cast<std::size_t>(num_rows);
  RidgeWork work{};
  work.matrix = static_cast<double*>(static_cast<void*>(memory));
  work.weights = work.matrix + n * (n + 1) / 2;
  work.inverse_lengths = work.weights + n * static_cast<std::size_t>(num_classes);
  void* const floats = work.inverse_lengths + n * static_cast<std::size_t>(num_parts);
  work.leave_one_out = static_cast<float*>(floats);
  work.coefficients = work.leave_one_out + n * static_cast<std::size_t>(num_classes);
  return work;
}

void SolveRidge(const Rows& rows, const RowParts& parts, const std::uint8_t* labels, std::int32_t num_classes,
                const RidgeWork& work, const RidgeSpace& learned) {
  const std::int32_t total = parts.Total(), n = rows.count;
  std::int8_t* const centre = learned.values + num_classes * total;
  Centre(centre, rows, total);
  learned.scales[num_classes] = kRidgeScaleOne;
  for (std::int32_t i = 0; i < n; ++i) {
    for (std::int32_t j = 0; j <= i; ++j) At(work.matrix, i, j) = i == j ? kRidge : 0.0;
  }
  std::int32_t first = 0;
  for (std::int32_t p = 0; p < parts.count; first += parts.sizes[p++]) {
    AddGram(work.matrix, work.inverse_lengths + p * n, rows, centre + first, first, parts.sizes[p],
            1.0 / static_cast<double>(parts.count));
  }
  Cholesky(work.matrix, n);
  InvertTriangle(work.matrix, n);
  for (std::int32_t k = 0; k < num_classes; ++k) SolveColumn(work.weights, work.matrix, labels, n, k, num_classes);
  LeaveOut(work, labels, n, num_classes);
  for (std::int32_t k = 0; k < num_classes; ++k) QuantizeClass(learned, rows, parts, work, k, num_classes);
}

void RidgeScores(float* scores, const std::int8_t* row, const RowParts& parts, std::int32_t num_classes,
                 const RidgeWeights& learned) {
  const auto row_of = [&](std::int32_t k) { return learned.values + static_cast<std::size_t>(k) * learned.stride; };
  const std::int8_t* const centre = row_of(num_classes);
  for (std::int32_t k = 0; k < num_classes; ++k) scores[k] = 0.0f;
  std::int32_t first = 0;
  for (std::int32_t p = 0; p < parts.count; first += parts.sizes[p++]) {
    const std::int32_t size = parts.sizes[p];
    const std::int32_t squares = CentredDot(row + first, row + first, centre + first, size);
    if (squares == 0) continue;  // no direction: z = 0
    const float inverse_length = 1.0f / SquareRoot(static_cast<float>(squares) * static_cast<float>(parts.count));
    for (std::int32_t k = 0; k < num_classes; ++k) {
      const std::int32_t dot = CentredDotWeights(row + first, row_of(k) + first, centre + first, size);
      scores[k] += static_cast<float>(learned.scales[k]) * kRidgeScaleUnit * static_cast<float>(dot) * inverse_length;
    }
  }
}

}  // namespace tinytrain
