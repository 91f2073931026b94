// The backward pass through the layers, from the last to the first: activation gradients, and weight gradients of the trained
// channels.
//
// The interior of an inverted bottleneck (1 x 1 convolution to many channels, depthwise, 1 x 1 back to few) goes by channel.
// For each expanded channel in turn: the gradient of the depthwise convolution's output, then that of its input. Then, for some
// channels at once: their part of the gradient of the block's input. So a few planes replace the gradients of two tensors that
// are six times as wide as the block's ends, and the sums are the same bit for bit. Channels whose gradient nothing needs are
// skipped.
#ifndef TINYTRAIN_BACKWARD_H_
#define TINYTRAIN_BACKWARD_H_

#include "tinytrain/backward/fisher.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain_tables.h"

namespace tinytrain {

// The gradient buffer of a tensor that has one.
float* GradientOf(const Tables& tables, const Buffers& buffers, std::int32_t tensor);

// Expects the gradient of the last tensor in its buffer. Adds to the weight gradients, in units of the layers' input scales.
// `features` is the stored sample, `outputs` are run_trainable's for it.
void Backward(const Tables& tables, const Buffers& buffers, const std::int8_t* features, const std::int8_t* const* outputs);

// The same down to the earliest candidate, with the original weights. Trains nothing; adds to `sums`.
void BackwardFisher(const Tables& tables, const Buffers& buffers, const std::int8_t* features,
                    const std::int8_t* const* outputs, const FisherSums& sums);

// Multiply-accumulates of a layer's forward pass for one output channel, and of Backward for one sample: weight gradients of
// the trained channels, and input gradients of all layers after the earliest trained one. For tables with candidates:
// CheckTables has found that the sums fit 32 bits.
std::uint32_t ChannelMacs(const Tables& tables, const Layer& layer);
std::uint32_t BackwardMacs(const Tables& tables);

// After the last sample: turns sums in units of the input scale into means.
void FinishWeightGradients(const Tables& tables, const Buffers& buffers, std::int32_t num_samples);

}  // namespace tinytrain

#endif  // TINYTRAIN_BACKWARD_H_
