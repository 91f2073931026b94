// Backward kernels: int8 activations and weights become floats when they are read, gradients are float32.
//
// Outputs first, inputs next, sizes last; the gradient of x is d_x. Activations are NHWC with batch 1. Kernels ADD to their
// outputs unless their comment says otherwise: the caller clears them first. They check nothing, and need no scratch memory
// except the stack (at most 1.5 KB).
//
// The weight kernels compute the rows of `channels` only. They omit the input's scale, a factor of all sums: d_kernel is in
// units of input_scale until the caller multiplies, once, after the last sample.
#ifndef TINYTRAIN_KERNELS_H_
#define TINYTRAIN_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace tinytrain {

// A window sliding over an input.
struct WindowShape {
  std::int32_t input_height;
  std::int32_t input_width;
  std::int32_t input_channels;
  std::int32_t output_height;
  std::int32_t output_width;
  std::int32_t output_channels;
  std::int32_t kernel_height;
  std::int32_t kernel_width;
  std::int32_t stride_height;
  std::int32_t stride_width;
  std::int32_t pad_top;
  std::int32_t pad_left;
};

struct ChannelCode;

// A depthwise convolution's window and the code for it, found once for all channels: see tinytrain/kernels/squares.h.
struct DepthwiseShape {
  explicit DepthwiseShape(const WindowShape& shape);

  WindowShape window;
  const ChannelCode* code;
};

// The output channels whose weight gradients are computed.
struct ChannelList {
  const std::uint16_t* channels;
  std::int32_t num_channels;
};

// Convolution, kernel [out][kernel_height][kernel_width][in].
// d_input [in pixels][in]; d_kernel [num_channels][kernel_height][kernel_width][in]; d_bias [num_channels] or nullptr.
void ConvBackwardInput(float* d_input, const float* d_output, const std::int8_t* kernel, const float* kernel_scales,
                       const WindowShape& shape);
void ConvBackwardKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                        std::int32_t zero_point, const ChannelList& list, const WindowShape& shape);

// 1 x 1 convolution with stride 1, and (num_pixels = 1) dense: kernel [out][in]. Multiplies d_output by the scales.
void PointwiseBackwardInput(float* d_input, float* d_output, const std::int8_t* kernel, const float* kernel_scales,
                            std::int32_t num_pixels, std::int32_t input_channels, std::int32_t output_channels);
void PointwiseBackwardKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                             std::int32_t zero_point, const ChannelList& list, std::int32_t num_pixels,
                             std::int32_t input_channels, std::int32_t output_channels);

// Depthwise convolution, depth multiplier 1, kernel [kernel_height][kernel_width][channels].
// d_kernel [num_channels][kernel_height][kernel_width].
void DepthwiseBackwardInput(float* d_input, const float* d_output, const std::int8_t* kernel, const float* kernel_scales,
                            const WindowShape& shape);
void DepthwiseBackwardKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                             std::int32_t zero_point, const ChannelList& list, const WindowShape& shape);

// d_output[p][c] *= scales[c]
void ScaleChannels(float* d_output, const float* scales, std::int32_t num_pixels, std::int32_t num_channels);

// Channels of a bottleneck interior. A plane is [height][width] of one channel; int8 tensors have all channels. These kernels
// add in the same order as those above, so that the results are the same bit for bit.
//
// Some planes at once of a 1 x 1 convolution's output: d_output [num_planes][num_pixels] is multiplied by the scales.
// kernel_rows and kernel_scales are those of the planes' channels.
void PointwiseBackwardInputPlanes(float* d_input, float* d_output, const std::int8_t* const* kernel_rows,
                                  const float* kernel_scales, std::int32_t num_pixels, std::int32_t input_channels,
                                  std::int32_t num_planes);
// `list`: indices of planes in d_output.
void PointwiseBackwardKernelPlanes(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                                   std::int32_t zero_point, const ChannelList& list, std::int32_t num_pixels,
                                   std::int32_t input_channels);
// d_input, a plane, of a 1 x 1 convolution; d_output [num_pixels][out] must be multiplied by the kernel's scales already.
// Overwrites.
void PointwiseBackwardPlane(float* d_input, const float* d_output, const std::int8_t* kernel, std::int32_t channel,
                            std::int32_t num_pixels, std::int32_t input_channels, std::int32_t output_channels);
// The part of it from `count` output channels, at most kPlanePart. `weights` are theirs, and d_output begins with them. The
// first part overwrites, the others add.
constexpr std::int32_t kPlanePart = 96;
void PointwiseBackwardPlanePart(float* d_input, const float* d_output, const float* weights, std::int32_t count, bool first,
                                std::int32_t num_pixels, std::int32_t output_channels);
// d_input and d_output are planes of channel `channel`.
void DepthwiseBackwardPlane(float* d_input, const float* d_output, const std::int8_t* kernel, float kernel_scale,
                            std::int32_t channel, const DepthwiseShape& shape);
// d_kernel [kernel_height][kernel_width], d_bias [1] or nullptr: one row of DepthwiseBackwardKernel's.
void DepthwiseBackwardPlaneKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                                  std::int32_t zero_point, std::int32_t channel, const DepthwiseShape& shape);
// As ActivationBackward; `output` is [num_pixels][num_channels].
void ActivationBackwardPlane(float* d_output, const std::int8_t* output, std::int32_t lower, std::int32_t upper,
                             std::int32_t channel, std::int32_t num_pixels, std::int32_t num_channels);

// Mean over each window, which does not count the padding.
void AveragePoolBackward(float* d_input, const float* d_output, const WindowShape& shape);

// output = input (one input of an addition, a reshape). Overwrites d_input unless `accumulate`; d_input may be d_output.
void IdentityBackward(float* d_input, const float* d_output, bool accumulate, std::size_t num_elements);

// ReLU, ReLU6, in place: clears d_output except where lower < output < upper. At a clamp the int8 output is lower or upper.
void ActivationBackward(float* d_output, const std::int8_t* output, std::int32_t lower, std::int32_t upper,
                        std::size_t num_elements);

}  // namespace tinytrain

#endif  // TINYTRAIN_KERNELS_H_
