// The walk through the layers from the last to the first: activation gradients, and weight gradients of the trained channels.
//
// The middle of an inverted bottleneck (1 x 1 convolution to many channels, depthwise, 1 x 1 back to few) goes by channel: for
// one expanded channel after the other, its gradient behind the depthwise convolution, then before it; then, for some of them
// at once, what they add to the block's input. A few planes take the place of two tensors six times as wide as the block's
// ends; the sums are the same bit for bit. Channels whose gradient nothing needs are left out.
#ifndef TINYTRAIN_BACKWARD_H_
#define TINYTRAIN_BACKWARD_H_

#include "tinytrain/backward/fisher.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain_tables.h"

namespace tinytrain {

// The gradient buffer of a tensor that has one.
float* GradientOf(const Tables& tables, const Buffers& buffers, std::int32_t tensor);

// Expects the gradient of the last tensor in its buffer; adds to the weight gradients, in units of the layers' input scales.
// `features` is the stored sample, `outputs` what run_trainable made of it.
void Backward(const Tables& tables, const Buffers& buffers, const std::int8_t* features, const std::int8_t* const* outputs);

// The same walk down to the earliest candidate, with the original weights: nothing is trained, `sums` are added to.
void BackwardFisher(const Tables& tables, const Buffers& buffers, const std::int8_t* features,
                    const std::int8_t* const* outputs, const FisherSums& sums);

// Multiply-accumulates of a layer's forward pass, for one of its output channels, and of Backward for one sample: weight
// gradients of the trained channels, and input gradients of all layers behind the earliest that is trained. Of tables with
// candidates, whose sums fit 32 bits.
std::uint32_t ChannelMacs(const Tables& tables, const Layer& layer);
std::uint32_t BackwardMacs(const Tables& tables);

// After the last sample: from sums in units of the input scale to means.
void FinishWeightGradients(const Tables& tables, const Buffers& buffers, std::int32_t num_samples);

}  // namespace tinytrain

#endif  // TINYTRAIN_BACKWARD_H_
