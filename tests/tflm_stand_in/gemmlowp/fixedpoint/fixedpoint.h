// gemmlowp's two roundings.
#ifndef GEMMLOWP_FIXEDPOINT_FIXEDPOINT_H_
#define GEMMLOWP_FIXEDPOINT_FIXEDPOINT_H_

#include <cstdint>
#include <limits>

namespace gemmlowp {

// a * b / 2^31, rounded to nearest.
inline std::int32_t SaturatingRoundingDoublingHighMul(std::int32_t a, std::int32_t b) {
  if (a == b && a == std::numeric_limits<std::int32_t>::min()) return std::numeric_limits<std::int32_t>::max();
  const std::int64_t product = static_cast<std::int64_t>(a) * b;
  const std::int64_t nudge = product >= 0 ? 1 << 30 : 1 - (1 << 30);
  return static_cast<std::int32_t>((product + nudge) / (1ll << 31));
}

// x / 2^exponent, rounded to nearest, away from zero at a tie.
inline std::int32_t RoundingDivideByPOT(std::int32_t x, int exponent) {
  const auto mask = static_cast<std::int32_t>((1ll << exponent) - 1);
  const std::int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
  return (x >> exponent) + ((x & mask) > threshold ? 1 : 0);
}

}  // namespace gemmlowp

#endif  // GEMMLOWP_FIXEDPOINT_FIXEDPOINT_H_
