// Loops over rows of int8 that the closed-form head and its familiarity share. Include after tinytrain/numerics/strict_float.h.
#ifndef TINYTRAIN_RIDGE_ROWS_H_
#define TINYTRAIN_RIDGE_ROWS_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain/numerics/math.h"
#include "tinytrain/trainer/ridge.h"

namespace tinytrain {

// From where the elements of a part are counted: the centre, or the int8 that stands for 0.
struct FromCentre {
  const std::int8_t* centre;
  std::int32_t At(std::int32_t d) const { return centre[d]; }
};
struct FromZero {
  std::int32_t zero_point;
  std::int32_t At(std::int32_t) const { return zero_point; }
};

// sum over a part of (a - o) (b - o)
template <typename Origin>
std::int32_t Dot(const std::int8_t* a, const std::int8_t* b, const Origin& origin, std::int32_t size) {
  std::int32_t sum = 0;
  for (std::int32_t d = 0; d < size; ++d) sum += (a[d] - origin.At(d)) * (b[d] - origin.At(d));
  return sum;
}

// sum over a part of (x - o) w
template <typename Origin>
std::int32_t DotWeights(const std::int8_t* x, const std::int8_t* weights, const Origin& origin, std::int32_t size) {
  std::int32_t sum = 0;
  for (std::int32_t d = 0; d < size; ++d) sum += (x[d] - origin.At(d)) * weights[d];
  return sum;
}

inline float Root(float x) { return SquareRoot(x); }

// The square root of x >= 0 in double: that of the nearest float, and one step of Newton's.
inline double Root(double x) {
  const auto near = static_cast<double>(SquareRoot(static_cast<float>(x)));
  return near > 0.0 ? 0.5 * (near + x / near) : 0.0;
}

// 1 / ||x - o|| of a part; 0 where the length is 0
template <typename Origin>
double InverseLength(const std::int8_t* part, const Origin& origin, std::int32_t size) {
  const double length = Root(static_cast<double>(Dot(part, part, origin, size)));
  return length > 0.0 ? 1.0 / length : 0.0;
}

// sum over rows of coefficient * (x - o), at element `at` of a row and `d` of its part
template <typename Origin>
float SumOfRows(const Rows& rows, const float* coefficients, const Origin& origin, std::int32_t at, std::int32_t d) {
  float sum = 0.0f;
  for (std::int32_t i = 0; i < rows.count; ++i) sum += coefficients[i] * static_cast<float>(rows.At(i)[at] - origin.At(d));
  return sum;
}

// Calls use(at, w) for each element of a row: w = SumOfRows after fill(part, its first element).
template <typename OriginOf, typename Fill, typename Use>
void ForEachElement(const Rows& rows, const RowParts& parts, OriginOf origin_of, const float* coefficients, Fill fill,
                    Use use) {
  std::int32_t first = 0;
  for (std::int32_t p = 0; p < parts.count; first += parts.sizes[p++]) {
    fill(p, first);
    const auto origin = origin_of(p, first);
    for (std::int32_t d = 0; d < parts.sizes[p]; ++d) use(first + d, SumOfRows(rows, coefficients, origin, first + d, d));
  }
}

// A row of sums as int8 with one scale: computed twice, for its largest value and for all of them.
template <typename OriginOf, typename Fill>
void QuantizeRow(const Rows& rows, const RowParts& parts, OriginOf origin_of, const float* coefficients, Fill fill,
                 std::int8_t* values, std::int32_t* scale) {
  float largest = 0.0f;
  ForEachElement(rows, parts, origin_of, coefficients, fill, [&](std::int32_t, float w) {
    const float size = w < 0.0f ? -w : w;
    largest = size > largest ? size : largest;
  });
  const auto nearest = static_cast<std::int32_t>(RoundToEven(largest / (127.0f * kRidgeScaleUnit)));
  *scale = nearest > 0 ? nearest : 1;
  const float inverse = 1.0f / (static_cast<float>(*scale) * kRidgeScaleUnit);
  ForEachElement(rows, parts, origin_of, coefficients, fill, [&](std::int32_t at, float w) {
    const float q = RoundToEven(w * inverse);
    values[at] = static_cast<std::int8_t>(q > 127.0f ? 127.0f : q < -127.0f ? -127.0f : q);
  });
}

}  // namespace tinytrain

#endif  // TINYTRAIN_RIDGE_ROWS_H_
