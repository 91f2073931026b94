// exp, log, rounding: our own, since libm's differ between platforms in the last bit. Include after
// tinytrain/numerics/strict_float.h.
#ifndef TINYTRAIN_MATH_H_
#define TINYTRAIN_MATH_H_

#include <cmath>
#include <cstdint>
#include <cstring>

namespace tinytrain {

inline float FloatFromBits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline std::uint32_t BitsFromFloat(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline bool IsFinite(float x) { return (BitsFromFloat(x) & 0x7f800000u) != 0x7f800000u; }

// IEEE 754 rounds a square root correctly, so this one is the same everywhere.
inline float SquareRoot(float x) { return std::sqrt(x); }

// Nearest integer, ties to even: beyond 2^23 every float is an integer, and adding 2^23 pushes the fraction out.
inline float RoundToEven(float x) {
  constexpr float kTwo23 = 8388608.0f;
  if (x >= 0.0f) return x < kTwo23 ? (x + kTwo23) - kTwo23 : x;
  return x > -kTwo23 ? (x - kTwo23) + kTwo23 : x;
}

// Largest integer that is not above x.
inline float Floor(float x) {
  const float nearest = RoundToEven(x);
  return nearest > x ? nearest - 1.0f : nearest;
}

// e^x within 2 units in the last place; 0 below -87, at most e^88.
// x = n ln 2 + r with |r| <= ln 2 / 2, e^x = 2^n e^r; the polynomial for e^r is that of Cephes' expf.
inline float Exp(float x) {
  if (!(x > -87.0f)) return 0.0f;
  if (x > 88.0f) x = 88.0f;
  const float n = RoundToEven(x * 1.44269504088896341f);
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts, the first exact in few bits
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const auto exponent = static_cast<std::uint32_t>(static_cast<std::int32_t>(n) + 127);
  return p * FloatFromBits(exponent << 23);
}

// Natural logarithm of a positive normal number, within 2 units in the last place (absolute near 1).
// x = 2^n m with m in [sqrt(1/2), sqrt(2)), log x = n ln 2 + log m; the polynomial is that of Cephes' logf.
inline float Log(float x) {
  const std::uint32_t bits = BitsFromFloat(x);
  std::int32_t exponent = static_cast<std::int32_t>(bits >> 23) - 126;
  float m = FloatFromBits((bits & 0x007fffffu) | 0x3f000000u);  // in [1/2, 1)
  if (m < 0.707106781186547524f) {
    exponent -= 1;
    m = m + m;
  }
  const float n = static_cast<float>(exponent);
  const float f = m - 1.0f;
  const float f2 = f * f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  p = p * f * f2;
  p = p + n * -2.12194440e-4f;
  p = p - 0.5f * f2;
  return (f + p) + n * 0.693359375f;
}

}  // namespace tinytrain

#endif  // TINYTRAIN_MATH_H_
