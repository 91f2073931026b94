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

std::int32_t TriangleElements(std::int32_t n) { return n * (n + 1) / 2; }

// Element (i, j) of a lower triangle, j <= i.
template <typename Value>
Value& At(Value* triangle, std::int32_t i, std::int32_t j) {
  return triangle[TriangleElements(i) + j];
}

// Element (i, j) of a symmetric matrix that is kept as its lower triangle.
std::int64_t Either(const std::int32_t* products, std::int32_t i, std::int32_t j) {
  return i < j ? At(products, j, i) : At(products, i, j);
}

void Centre(std::int8_t* centre, const Rows& rows, std::int32_t num_elements) {
  for (std::int32_t d = 0; d < num_elements; ++d) {
    std::int32_t sum = 0;
    for (std::int32_t i = 0; i < rows.count; ++i) sum += rows.At(i)[d];
    centre[d] = RoundedMean(sum, rows.count);
  }
}

template <typename Value>
Value InverseRoot(Value square) {
  const Value length = Root(square);
  return length > Value{0} ? Value{1} / length : Value{0};
}

// Adds Z_p Z_p^T / P of one part: product(i, j), with row i divided by the root of product(i, i).
template <typename Value, typename Product>
void AddGram(Value* matrix, Value* inverse_lengths, std::int32_t n, Value share, Product product) {
  for (std::int32_t i = 0; i < n; ++i) {
    inverse_lengths[i] = InverseRoot(static_cast<Value>(product(i, i)));
    for (std::int32_t j = 0; j <= i; ++j) {
      At(matrix, i, j) += share * (static_cast<Value>(product(i, j)) * inverse_lengths[i] * inverse_lengths[j]);
    }
  }
}

// K becomes L with L L^T = K + lambda I.
template <typename Value>
void Cholesky(Value* matrix, std::int32_t n) {
  for (std::int32_t i = 0; i < n; ++i) {
    for (std::int32_t j = 0; j <= i; ++j) {
      Value* const row = &At(matrix, i, 0);
      const Value* const other = &At(matrix, j, 0);
      Value rest = row[j];
      for (std::int32_t k = 0; k < j; ++k) rest -= row[k] * other[k];
      row[j] = i == j ? Root(rest + static_cast<Value>(kRidge)) : rest / other[j];
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

// Column k of A = L^-T (L^-1 Y), with L^-1 in `inverse`.
void SolveColumn(double* weights, double* inverse, const RidgeTask& task, std::int32_t k) {
  const std::int32_t n = task.rows.count, stride = task.num_targets;
  double* const column = weights + k;
  const double otherwise = 0.0 - 1.0 / static_cast<double>(task.num_present), of_class = 1.0 + otherwise;
  for (std::int32_t i = 0; i < n; ++i) {
    double sum = 0.0;
    for (std::int32_t j = 0; j <= i; ++j) sum += At(inverse, i, j) * (task.Label(j) == k ? of_class : otherwise);
    column[i * stride] = sum;
  }
  for (std::int32_t i = 0; i < n; ++i) {
    double sum = 0.0;
    for (std::int32_t r = i; r < n; ++r) sum += At(inverse, r, i) * column[r * stride];
    column[i * stride] = sum;
  }
}

// The sums of each row of a part's products.
void SumProducts(std::int64_t* sums, const std::int32_t* products, std::int32_t n) {
  for (std::int32_t a = 0; a < n; ++a) {
    sums[a] = 0;
    for (std::int32_t b = 0; b < n; ++b) sums[a] += Either(products, a, b);
  }
}

// K of all rows around the mean of all but row i. Of the m = n - 1 others, with D the products around any point,
// m^2 (x_a - mu)(x_b - mu) = m^2 D_ab - m (S_a + S_b) + sum of S, S_a being the sum of D_aj over the others: exact.
void GramWithout(const RidgeWork& work, std::int32_t num_parts, std::int32_t n, std::int32_t i) {
  const std::int64_t m = n - 1;
  std::memset(work.left_out, 0, static_cast<std::size_t>(TriangleElements(n)) * sizeof(float));
  for (std::int32_t p = 0; p < num_parts; ++p) {
    const std::int32_t* const products = work.products + p * TriangleElements(n);
    std::int64_t total = 0;
    for (std::int32_t a = 0; a < n; ++a) {
      const std::int64_t sum = work.row_sums[p * n + a] - Either(products, a, i);
      work.sums[a] = m * sum;
      total += a == i ? 0 : sum;
    }
    AddGram(work.left_out, work.coefficients, n, 1.0f / static_cast<float>(num_parts),
            [&](std::int32_t a, std::int32_t b) { return m * m * At(products, a, b) - work.sums[a] - work.sums[b] + total; });
  }
}

// `taken` gets row i of a symmetric matrix, with 0 in place of its diagonal element. Then row and column i become those of the
// unit matrix.
void TakeOut(float* matrix, float* taken, std::int32_t n, std::int32_t i) {
  for (std::int32_t a = 0; a < n; ++a) {
    float* const element = a < i ? &At(matrix, i, a) : &At(matrix, a, i);
    taken[a] = a == i ? 0.0f : *element;
    *element = a == i ? 1.0f : 0.0f;
  }
}

// L L^T x = y; y becomes x.
void SolveFactored(float* y, float* factor, std::int32_t n) {
  for (std::int32_t a = 0; a < n; ++a) {
    const float* const row = &At(factor, a, 0);
    for (std::int32_t r = 0; r < a; ++r) y[a] -= row[r] * y[r];
    y[a] /= row[a];
  }
  for (std::int32_t a = n - 1; a >= 0; --a) {
    const float* const row = &At(factor, a, 0);
    y[a] /= row[a];
    for (std::int32_t r = 0; r < a; ++r) y[r] -= row[r] * y[a];
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
  return RoundUpTo(kArenaAlignment, (num_doubles + n) * sizeof(double) + n * (n + 1) / 2 * parts * sizeof(std::int32_t) +
                                        n * (targets + 1) * sizeof(float) + n * sizeof(std::uint16_t));
}

RidgeWork CutRidgeWork(std::uint8_t* memory, std::int32_t num_rows, std::int32_t num_parts, std::int32_t num_targets) {
  const auto n = static_cast<std::size_t>(num_rows), targets = static_cast<std::size_t>(num_targets);
  RidgeWork work{};
  work.matrix = static_cast<double*>(static_cast<void*>(memory));
  work.weights = work.matrix + n * (n + 1) / 2;
  work.inverse_lengths = work.weights + n * targets;
  work.left_out = static_cast<float*>(static_cast<void*>(work.matrix));
  work.others = static_cast<float*>(static_cast<void*>(work.weights));
  work.row_sums = static_cast<std::int64_t*>(static_cast<void*>(work.inverse_lengths));
  void* const sums = work.inverse_lengths + n * static_cast<std::size_t>(num_parts);
  work.sums = static_cast<std::int64_t*>(sums);
  void* const products = work.sums + n;
  work.products = static_cast<std::int32_t*>(products);
  void* const floats = work.products + n * (n + 1) / 2 * static_cast<std::size_t>(num_parts);
  work.leave_one_out = static_cast<float*>(floats);
  work.coefficients = work.leave_one_out + n * targets;
  void* const places = work.coefficients + n;
  work.order = static_cast<std::uint16_t*>(places);
  return work;
}

void MultiplyRows(const RidgeTask& task, const RowParts& parts, std::int8_t* centre, const RidgeWork& work) {
  Centre(centre, task.rows, parts.Total());
  std::int32_t first = 0;
  std::int32_t* product = work.products;
  for (std::int32_t p = 0; p < parts.count; first += parts.sizes[p++]) {
    const FromCentre origin = {centre + first};
    for (std::int32_t i = 0; i < task.rows.count; ++i) {
      for (std::int32_t j = 0; j <= i; ++j) {
        *product++ = Dot(task.rows.At(i) + first, task.rows.At(j) + first, origin, parts.sizes[p]);
      }
    }
  }
}

void LeaveOneOut(const RidgeTask& task, const RowParts& parts, const RidgeWork& work) {
  const std::int32_t n = task.rows.count;
  for (std::int32_t p = 0; p < parts.count; ++p) SumProducts(work.row_sums + p * n, work.products + p * TriangleElements(n), n);
  for (std::int32_t i = 0; i < n; ++i) {
    GramWithout(work, parts.count, n, i);
    TakeOut(work.left_out, work.others, n, i);
    Cholesky(work.left_out, n);
    SolveFactored(work.others, work.left_out, n);
    float sum = 0.0f;
    for (std::int32_t a = 0; a < n; ++a) sum += work.others[a];
    float* const scores = work.leave_one_out + i * task.num_targets;
    for (std::int32_t k = 0; k < task.num_targets; ++k) {
      const bool is_absent = task.num_present < task.num_targets && task.Count(k) == 0;
      scores[k] = is_absent ? kAbsentScore : -sum / static_cast<float>(task.num_present);
    }
    for (std::int32_t a = 0; a < n; ++a) scores[task.Label(a)] += work.others[a];
  }
}

void SolveRidge(const RidgeTask& task, const RowParts& parts, const RidgeWork& work) {
  const std::int32_t n = task.rows.count;
  std::memset(work.matrix, 0, static_cast<std::size_t>(TriangleElements(n)) * sizeof(double));
  for (std::int32_t p = 0; p < parts.count; ++p) {
    const std::int32_t* const products = work.products + p * TriangleElements(n);
    AddGram(work.matrix, work.inverse_lengths + p * n, n, 1.0 / static_cast<double>(parts.count),
            [&](std::int32_t i, std::int32_t j) { return At(products, i, j); });
  }
  Cholesky(work.matrix, n);
  InvertTriangle(work.matrix, n);
  for (std::int32_t k = 0; k < task.num_targets; ++k) SolveColumn(work.weights, work.matrix, task, k);
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
