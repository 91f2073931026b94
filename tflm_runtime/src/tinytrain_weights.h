// Between float32 masters and the int8 kernels and int32 biases that the forward pass reads.
#ifndef TINYTRAIN_WEIGHTS_H_
#define TINYTRAIN_WEIGHTS_H_

#include <cstdint>

#include "tinytrain_memory.h"

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

// Kernel and bias in RAM become those in flash, masters their real values.
void CopyFromFlash(const TrainedState& state);

// Rounds the masters into the kernel and bias in RAM.
void QuantizeMasters(const TrainedState& state);

}  // namespace tinytrain

#endif  // TINYTRAIN_WEIGHTS_H_
