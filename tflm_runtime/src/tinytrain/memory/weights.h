// Trained weights: int8 kernels and int32 biases, which the forward pass reads, their float32 masters, and how they move.
#ifndef TINYTRAIN_WEIGHTS_H_
#define TINYTRAIN_WEIGHTS_H_

#include <cstdint>

#include "tinytrain/memory/memory.h"
#include "tinytrain/trainer/optimizer.h"

namespace tinytrain {

// round(value / scale), ties to even, clipped to [-127, 127]: int8 kernels are symmetric.
std::int8_t QuantizeWeight(float value, float scale);

// round(value / scale), ties to even, clipped to +-2^30: room for the sum that the bias joins.
std::int32_t QuantizeBias(float value, float scale);

// Index into the kernel of weight j of the n-th trained channel.
std::int32_t KernelIndex(const TrainedState& state, std::int32_t n, std::int32_t j);

// Scale of a trained layer's n-th channel: of its kernel, and of its bias (input scale * kernel scale).
float KernelScale(const TrainedState& state, std::int32_t n);
float BiasScale(const TrainedState& state, std::int32_t n);

// The weights in flash of what RAM holds: of the whole layer or, where it is split, of the trained channels.
const std::int8_t* OriginalKernel(const TrainedState& state);
const std::int32_t* OriginalBias(const TrainedState& state);

// Kernel and bias in RAM become those in flash, masters their real values.
void CopyFromFlash(const TrainedState& state);

// clip(q + round_by_chance(change / scale), -limit, limit), which on average is q + change / scale; u is uniform in (0, 1).
constexpr std::int32_t kWeightLimit = 127;
constexpr std::int32_t kBiasLimit = 1 << 30;
std::int32_t MoveByChance(std::int32_t q, float change, float scale, float u, std::int32_t limit);

// Names the random numbers of one optimizer step.
struct Chance {
  std::uint32_t seed;
  std::uint32_t step;
};

// Moves each trained weight and bias of a layer as the optimizer says: the masters, and with them what they round to; where
// there are none, kernel and bias themselves, by chance.
void MoveWeights(const TrainedState& state, OptimizerStep* step, const Chance& chance);

}  // namespace tinytrain

#endif  // TINYTRAIN_WEIGHTS_H_
