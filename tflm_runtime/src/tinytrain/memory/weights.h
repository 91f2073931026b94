// Trained weights: the int8 kernels and int32 biases of the forward pass, their float32 masters, and their updates.
#ifndef TINYTRAIN_WEIGHTS_H_
#define TINYTRAIN_WEIGHTS_H_

#include <cstdint>

#include "tinytrain/memory/memory.h"
#include "tinytrain/trainer/optimizer.h"

namespace tinytrain {

// round(value / scale), ties to even, clipped to [-127, 127]: int8 kernels are symmetric.
std::int8_t QuantizeWeight(float value, float scale);

// round(value / scale), ties to even, clipped to +-2^30: the sum to which the bias is added still fits.
std::int32_t QuantizeBias(float value, float scale);

// Index into the kernel of weight j of the n-th trained channel.
std::int32_t KernelIndex(const TrainedState& state, std::int32_t n, std::int32_t j);

// Scale of a trained layer's n-th channel: of its kernel, and of its bias (input scale * kernel scale).
float KernelScale(const TrainedState& state, std::int32_t n);
float BiasScale(const TrainedState& state, std::int32_t n);

// The weights in flash of the channels in RAM: of all channels or, if the layer is split, of the trained ones.
const std::int8_t* OriginalKernel(const TrainedState& state);
const std::int32_t* OriginalBias(const TrainedState& state);

// Copies kernel and bias from flash to RAM, and their real values to the masters.
void CopyFromFlash(const TrainedState& state);

// clip(q + stochastic_round(change / scale), -limit, limit); its mean is q + change / scale. u is uniform in (0, 1).
constexpr std::int32_t kWeightLimit = 127;
constexpr std::int32_t kBiasLimit = 1 << 30;
std::int32_t AddStochastically(std::int32_t q, float change, float scale, float u, std::int32_t limit);

// Selects the random numbers of one optimizer step.
struct RandomKey {
  std::uint32_t seed;
  std::uint32_t step;
};

// Adds the optimizer's change to each trained weight and bias of a layer: to the masters, which are then rounded, or, without
// masters, to kernel and bias themselves, with stochastic rounding.
void MoveWeights(const TrainedState& state, OptimizerStep* step, const RandomKey& random_key);

}  // namespace tinytrain

#endif  // TINYTRAIN_WEIGHTS_H_
