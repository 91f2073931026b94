// Random numbers without a state: the same for the same seed, step and weight, on every machine and in any order.
#ifndef TINYTRAIN_RANDOM_H_
#define TINYTRAIN_RANDOM_H_

#include <cstdint>

#include "tinytrain/numerics/math.h"

namespace tinytrain {

// First word of Philox2x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
inline std::uint32_t Philox(std::uint32_t key, std::uint32_t counter_0, std::uint32_t counter_1) {
  for (std::int32_t round = 0; round < 10; ++round) {
    const std::uint64_t product = std::uint64_t{0xd256d193u} * counter_0;
    counter_0 = static_cast<std::uint32_t>(product >> 32) ^ key ^ counter_1;
    counter_1 = static_cast<std::uint32_t>(product);
    key += 0x9e3779b9u;
  }
  return counter_0;
}

// Uniform on the 2^23 odd multiples of 2^-24 between 0 and 1.
inline float Uniform(std::uint32_t seed, std::uint32_t step, std::uint32_t weight) {
  return static_cast<float>((Philox(seed, weight, step) >> 8) | 1u) * (1.0f / 16777216.0f);
}

// Stochastic rounding: floor(x) + 1 with probability x - floor(x), else floor(x), so that the mean is x, to 2^-24 for a uniform
// u.
inline float RoundStochastically(float x, float u) {
  const float below = Floor(x);
  return u < x - below ? below + 1.0f : below;
}

}  // namespace tinytrain

#endif  // TINYTRAIN_RANDOM_H_
