// The kernel of a convolution or dense layer, in one piece or in two: trained channels in RAM, the others in flash. Gradients
// of its input are the same bit for bit either way: sums run over the channels in their order.
#ifndef TINYTRAIN_ROWS_H_
#define TINYTRAIN_ROWS_H_

#include <cstdint>

#include "tinytrain/kernels/kernels.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain_tables.h"

namespace tinytrain {

// Output channels [first, first + count), whose rows are contiguous in memory.
struct Run {
  std::int32_t first;
  std::int32_t count;
  const std::int8_t* rows;
};

// The kernel of a layer as the forward pass reads it. State and tables must outlive it.
class KernelRows {
 public:
  // `state` is the layer's; all nullptr: it is not trained.
  KernelRows(const Tables& tables, const Layer& layer, const TrainedState& state);

  // The kernel in one piece; nullptr if it is in two.
  const std::int8_t* whole() const { return whole_; }
  // One output channel's weights. Not for depthwise convolutions, whose channels are columns.
  const std::int8_t* Row(std::int32_t channel) const;
  // The longest run that begins with `channel`.
  Run RunFrom(std::int32_t channel) const;

  std::int32_t num_channels() const { return layout_.output_channels; }

 private:
  // The number of trained channels below `channel`.
  std::int32_t NumTrainedBelow(std::int32_t channel) const;

  const Layer& layer_;
  const TrainedState& state_;
  KernelLayout layout_;
  const std::int8_t* whole_;
};

// ConvBackwardInput and, with a window of 1 x 1, PointwiseBackwardInput for a kernel in two pieces.
void ConvBackwardInputRows(float* d_input, const float* d_output, const KernelRows& kernel, const float* kernel_scales,
                           const WindowShape& shape);

// PointwiseBackwardPlane for a kernel in two pieces.
void PointwiseBackwardPlaneRows(float* d_input, const float* d_output, const KernelRows& kernel, std::int32_t channel,
                                std::int32_t num_pixels, std::int32_t input_channels);

}  // namespace tinytrain

#endif  // TINYTRAIN_ROWS_H_
