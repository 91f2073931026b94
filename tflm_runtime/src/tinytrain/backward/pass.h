// One sample's backward pass: its inputs and its gradients.
#ifndef TINYTRAIN_PASS_H_
#define TINYTRAIN_PASS_H_

#include <cstdint>

#include "tinytrain/backward/backward.h"
#include "tinytrain/backward/fisher.h"
#include "tinytrain/kernels/kernels.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain/backward/kernel_rows.h"
#include "tinytrain_tables.h"

namespace tinytrain {

// The int8 value from which ReLU6 clamps, in TensorFlow Lite's own rounding; 128 (never) for ReLU.
std::int32_t UpperClamp(Activation activation, const Tensor& output);

// A pass down to layer `first`: to gradients of trained weights or, with `fisher`, to the candidates' sums.
struct Pass {
  const Tables& tables;
  const Buffers& buffers;
  const std::int8_t* features;
  const std::int8_t* const* outputs;
  std::int32_t first;
  const FisherSums* fisher;  // nullptr: no layer is scored

  bool HasGradient(std::int32_t tensor) const { return tables.tensors[tensor].gradient_offset != kNone; }
  float* Gradient(std::int32_t tensor) const { return GradientOf(tables, buffers, tensor); }
  // Whether a tensor's gradient is the same at each position: all that reads it is a mean over the positions, or a sum of which
  // that is true. No more than `num_sums` follow one another, so that no tables make this take long.
  bool IsUniform(std::int32_t tensor, std::int32_t num_sums = 1) const;
  const std::int8_t* Activations(std::int32_t tensor) const;
  // All nullptr if layer `index` is not trained.
  TrainedState StateOf(std::int32_t index) const;
  // The sums of layer `index`; nullptr: it is not scored.
  float* FisherOf(std::int32_t index) const { return fisher == nullptr ? nullptr : fisher->Of(index); }
};

// Through a bottleneck interior, channel by channel: from the output of the block's last layer, `index`, to the depthwise
// convolution before it and, if a gradient flows on, through the 1 x 1 convolution before that. `project_kernel` is the last
// layer's kernel.
void InteriorBackward(const Pass& pass, std::int32_t index, const KernelRows& project_kernel);

}  // namespace tinytrain

#endif  // TINYTRAIN_PASS_H_
