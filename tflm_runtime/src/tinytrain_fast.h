// What the kernels need to be fast on a Cortex-M4F. Include last: it changes how the rest of the file is compiled.
#ifndef TINYTRAIN_FAST_H_
#define TINYTRAIN_FAST_H_

#include <cstdint>

// A board's sketch is compiled for size (-Os), which leaves the constant loops over a tile as loops. Here they must go: only
// then does a tile live in registers. What is not to be repeated in each caller is kept apart.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O2", "fp-contract=off", "no-schedule-insns")  // the scheduler would need more registers than there are
#define TINYTRAIN_UNROLL _Pragma("GCC unroll 16")
#define TINYTRAIN_UNROLL_4 _Pragma("GCC unroll 4")
#define TINYTRAIN_ONE_POINTER(p) asm("" : "+r"(p))  // or each p[i] of an unrolled loop gets a pointer of its own
#define TINYTRAIN_APART __attribute__((noinline))
#else
#define TINYTRAIN_UNROLL
#define TINYTRAIN_UNROLL_4
#define TINYTRAIN_ONE_POINTER(p)
#define TINYTRAIN_APART
#endif

// On a Cortex-M4F neighbours in memory are loaded by one instruction, a cycle each and one more, where apart each takes two. It
// wants registers that follow each other, so these are named.
#if defined(__arm__) && defined(__ARM_FP) && defined(__GNUC__) && !defined(__clang__)
#define TINYTRAIN_RUNS_AT_ONCE 1
#else
#define TINYTRAIN_RUNS_AT_ONCE 0
#endif

namespace tinytrain {

// A Cortex-M4F has 32 float registers, and a multiply-accumulate is two instructions without contraction. What is above that is
// loads, so each float loaded should serve a tile's side of them: 2 x 8 sums, 2 + 8 operands. int8 operands are made floats
// once for a panel of kPanel rows (pixels, or output channels), which lies on the stack.
constexpr std::int32_t kTile = 2;
constexpr std::int32_t kColumns = 8;
constexpr std::int32_t kPanel = 32;

inline std::int32_t Smaller(std::int32_t a, std::int32_t b) { return a < b ? a : b; }

// kColumns floats that follow each other, `from` behind them. Two loads that are in use together want different kFirst.
template <int kFirst>
inline void LoadRun(float (&to)[kColumns], const float*& from) {
#if TINYTRAIN_RUNS_AT_ONCE
  if (kFirst == 0) {
    register float s0 asm("s0"), s1 asm("s1"), s2 asm("s2"), s3 asm("s3"), s4 asm("s4"), s5 asm("s5"), s6 asm("s6"), s7 asm("s7");
    asm("vldmia %0!, {s0-s7}"
        : "+r"(from), "=t"(s0), "=t"(s1), "=t"(s2), "=t"(s3), "=t"(s4), "=t"(s5), "=t"(s6), "=t"(s7)
        : "m"(*reinterpret_cast<const float(*)[kColumns]>(from)));
    to[0] = s0, to[1] = s1, to[2] = s2, to[3] = s3, to[4] = s4, to[5] = s5, to[6] = s6, to[7] = s7;
  } else {
    register float s8 asm("s8"), s9 asm("s9"), s10 asm("s10"), s11 asm("s11"), s12 asm("s12"), s13 asm("s13"), s14 asm("s14"),
        s15 asm("s15");
    asm("vldmia %0!, {s8-s15}"
        : "+r"(from), "=t"(s8), "=t"(s9), "=t"(s10), "=t"(s11), "=t"(s12), "=t"(s13), "=t"(s14), "=t"(s15)
        : "m"(*reinterpret_cast<const float(*)[kColumns]>(from)));
    to[0] = s8, to[1] = s9, to[2] = s10, to[3] = s11, to[4] = s12, to[5] = s13, to[6] = s14, to[7] = s15;
  }
#else
  for (std::int32_t c = 0; c < kColumns; ++c) to[c] = *from++;
#endif
}

// The inverse; `to` is behind them then.
inline void StoreRun(float*& to, const float (&from)[kColumns]) {
#if TINYTRAIN_RUNS_AT_ONCE
  register float s0 asm("s0") = from[0], s1 asm("s1") = from[1], s2 asm("s2") = from[2], s3 asm("s3") = from[3],
                 s4 asm("s4") = from[4], s5 asm("s5") = from[5], s6 asm("s6") = from[6], s7 asm("s7") = from[7];
  asm("vstmia %0!, {s0-s7}"
      : "+r"(to), "=m"(*reinterpret_cast<float(*)[kColumns]>(to))
      : "t"(s0), "t"(s1), "t"(s2), "t"(s3), "t"(s4), "t"(s5), "t"(s6), "t"(s7));
#else
  for (std::int32_t c = 0; c < kColumns; ++c) *to++ = from[c];
#endif
}

// Of kColumns values that lie `step` apart: x - zero_point
inline void ToFloats(float (&to)[kColumns], const std::int8_t* x, std::int32_t step, std::int32_t zero_point) {
  TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) to[c] = static_cast<float>(x[c * step] - zero_point);
}

// y += a * (x - zero_point), zero_point = 0 for weights: where no tile is worth it. Four at a time, since a board's -Os would not.
inline void AddScaledRow(float* y, float a, const std::int8_t* x, std::int32_t zero_point, std::int32_t count) {
  std::int32_t i = 0;
  for (; i + 4 <= count; i += 4) {
    y[i] += a * static_cast<float>(x[i] - zero_point);
    y[i + 1] += a * static_cast<float>(x[i + 1] - zero_point);
    y[i + 2] += a * static_cast<float>(x[i + 2] - zero_point);
    y[i + 3] += a * static_cast<float>(x[i + 3] - zero_point);
  }
  for (; i < count; ++i) y[i] += a * static_cast<float>(x[i] - zero_point);
}

// sum over `count` values that lie `step` apart
inline float Sum(const float* values, std::int32_t step, std::int32_t count) {
  float sum = 0.0f;
  for (std::int32_t i = 0; i < count; ++i, values += step) sum += *values;
  return sum;
}

}  // namespace tinytrain

#endif  // TINYTRAIN_FAST_H_
