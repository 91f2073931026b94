// Helpers of fast kernels on a Cortex-M4F. Include it last: it changes how the rest of the file is compiled.
#ifndef TINYTRAIN_FAST_H_
#define TINYTRAIN_FAST_H_

#include <cstdint>

// A board's sketch is compiled for size (-Os), which keeps constant loops over a tile as loops. Here they are unrolled: only
// then does a tile stay in registers. TINYTRAIN_APART keeps a function from being inlined into each caller.
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

// A Cortex-M4F loads neighbours in memory by one instruction: one cycle each and one more; single loads take two cycles each.
// The instruction needs consecutive registers, so these are named.
#if defined(__arm__) && defined(__ARM_FP) && defined(__GNUC__) && !defined(__clang__)
#define TINYTRAIN_RUNS_AT_ONCE 1
#else
#define TINYTRAIN_RUNS_AT_ONCE 0
#endif

namespace tinytrain {

// A Cortex-M4F has 32 float registers, and a multiply-accumulate is two instructions without contraction. Further instructions
// are loads: kColumns consecutive floats, a run, are loaded at once, and sums stay in registers.
constexpr std::int32_t kColumns = 8;

inline std::int32_t Smaller(std::int32_t a, std::int32_t b) { return a < b ? a : b; }

// Loads kColumns consecutive floats and advances `from` past them. Runs in use at the same time need different kFirst: 0, 8,
// 16, 24.
template <int kFirst>
inline void LoadRun(float (&to)[kColumns], const float*& from) {
  for (std::int32_t c = 0; c < kColumns; ++c) to[c] = *from++;
}

// The inverse: stores them and advances `to` past them.
template <int kFirst>
inline void StoreRun(float*& to, const float (&from)[kColumns]) {
  for (std::int32_t c = 0; c < kColumns; ++c) *to++ = from[c];
}

#if TINYTRAIN_RUNS_AT_ONCE
#define TINYTRAIN_RUN(FIRST, LIST, A, B, C, D, E, F, G, H)                                                             \
  template <>                                                                                                          \
  inline void LoadRun<FIRST>(float(&to)[kColumns], const float*& from) {                                               \
    register float a asm(A), b asm(B), c asm(C), d asm(D), e asm(E), f asm(F), g asm(G), h asm(H);                     \
    asm("vldmia %0!, " LIST                                                                                            \
        : "+r"(from), "=t"(a), "=t"(b), "=t"(c), "=t"(d), "=t"(e), "=t"(f), "=t"(g), "=t"(h)                           \
        : "m"(*reinterpret_cast<const float(*)[kColumns]>(from)));                                                     \
    to[0] = a, to[1] = b, to[2] = c, to[3] = d, to[4] = e, to[5] = f, to[6] = g, to[7] = h;                            \
  }                                                                                                                    \
  template <>                                                                                                          \
  inline void StoreRun<FIRST>(float*& to, const float(&from)[kColumns]) {                                              \
    register float a asm(A) = from[0], b asm(B) = from[1], c asm(C) = from[2], d asm(D) = from[3], e asm(E) = from[4], \
                     f asm(F) = from[5], g asm(G) = from[6], h asm(H) = from[7];                                       \
    asm("vstmia %0!, " LIST                                                                                            \
        : "+r"(to), "=m"(*reinterpret_cast<float(*)[kColumns]>(to))                                                    \
        : "t"(a), "t"(b), "t"(c), "t"(d), "t"(e), "t"(f), "t"(g), "t"(h));                                             \
  }
TINYTRAIN_RUN(0, "{s0-s7}", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")
TINYTRAIN_RUN(8, "{s8-s15}", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15")
TINYTRAIN_RUN(16, "{s16-s23}", "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23")
TINYTRAIN_RUN(24, "{s24-s31}", "s24", "s25", "s26", "s27", "s28", "s29", "s30", "s31")
#undef TINYTRAIN_RUN
#endif

// to[i] = operand.Of(x[i * step]): one channel of a tensor that has `step` of them
template <typename Operand>
TINYTRAIN_APART void FillFloats(float* to, const std::int8_t* x, std::int32_t step, Operand operand, std::int32_t count) {
  for (; count >= kColumns; count -= kColumns) {
    float some[kColumns];
    TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; c += 2, x += 2 * step) {
      TINYTRAIN_ONE_POINTER(x);
      some[c] = operand.Of(x[0]);
      some[c + 1] = operand.Of(x[step]);
    }
    StoreRun<0>(to, some);
  }
  for (; count > 0; --count, x += step) *to++ = operand.Of(*x);
}

struct Weight {
  float Of(std::int8_t q) const { return static_cast<float>(q); }
};
struct ScaledWeight {
  float scale;
  float Of(std::int8_t q) const { return static_cast<float>(q) * scale; }
};
struct Pixel {
  std::int32_t zero_point;
  float Of(std::int8_t q) const { return static_cast<float>(q - zero_point); }
};

// y += a * (x - zero_point), zero_point = 0 for weights: for rows too short for a tile. Four at a time, which a board's -Os
// would not do.
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
