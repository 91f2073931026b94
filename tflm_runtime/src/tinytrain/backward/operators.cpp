#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/backward/operators.h"

#include "tinytrain/backward/kernel_rows.h"
#include "tinytrain/kernels/pooling.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain/numerics/math.h"

namespace tinytrain {
namespace {

// ---- is_valid --------------------------------------------------------------------------------------------------------------

constexpr std::int32_t kMaxSide = 32767;  // of a window and its strides

bool InRange(std::int32_t value, std::int32_t lowest, std::int32_t highest) { return value >= lowest && value <= highest; }

// Every window has at least one real row (or column): output positions 0..output_size - 1.
bool WindowFits(std::int32_t input_size, std::int32_t output_size, std::int32_t kernel_size, std::int32_t stride,
                std::int32_t pad) {
  if (!InRange(kernel_size, 1, kMaxSide) || !InRange(stride, 1, kMaxSide) || !InRange(pad, 0, kernel_size - 1)) return false;
  return static_cast<std::int64_t>(output_size - 1) * stride - pad < input_size;
}

bool WindowsFit(const Layer& layer, const Tensor& input, const Tensor& output) {
  return WindowFits(input.height, output.height, layer.kernel_height, layer.stride_height, layer.pad_top) &&
         WindowFits(input.width, output.width, layer.kernel_width, layer.stride_width, layer.pad_left);
}

bool ChannelWindowsFit(const Layer& layer, const Tensor& input, const Tensor& output) {
  return input.channels == output.channels && WindowsFit(layer, input, output);
}

// The input lies inside the output.
bool PadFits(const Layer& layer, const Tensor& input, const Tensor& output) {
  return input.channels == output.channels && InRange(layer.pad_top, 0, output.height - input.height) &&
         InRange(layer.pad_left, 0, output.width - input.width);
}

bool OutputIsOnePixel(const Layer&, const Tensor&, const Tensor& output) { return output.height == 1 && output.width == 1; }

bool ShapesAreEqual(const Layer&, const Tensor& input, const Tensor& output) {
  return input.height == output.height && input.width == output.width && input.channels == output.channels;
}

bool LeakyReluFits(const Layer& layer, const Tensor& input, const Tensor& output) {
  return ShapesAreEqual(layer, input, output) && layer.slope >= 0.0f && IsFinite(layer.slope);
}

bool SizesAreEqual(const Layer&, const Tensor& input, const Tensor& output) {
  return NumElements(input) == NumElements(output);
}

// ---- weights_per_channel ---------------------------------------------------------------------------------------------------

std::int64_t WindowWeights(const Layer& layer, const Tensor&) {
  return static_cast<std::int64_t>(layer.kernel_height) * layer.kernel_width;
}

std::int64_t ConvWeights(const Layer& layer, const Tensor& input) { return WindowWeights(layer, input) * input.channels; }

std::int64_t DenseWeights(const Layer&, const Tensor& input) { return NumElements(input); }

// ---- kernel_backward -------------------------------------------------------------------------------------------------------

// A dense layer as a 1 x 1 convolution.
WindowShape OnePixel(const WindowShape& s) {
  return {1, 1, s.input_height * s.input_width * s.input_channels, 1, 1, s.output_channels, 1, 1, 1, 1, 0, 0};
}

void PointwiseKernel(const KernelStep& step, const WindowShape& s) {
  PointwiseBackwardKernel(step.state.d_kernel, step.state.d_bias, step.d_output, step.input, step.input_tensor.zero_point,
                          step.channels, s.input_height * s.input_width, s.input_channels, s.output_channels);
}

void ConvKernel(const KernelStep& step) {
  if (IsPointwise(step.shape)) return PointwiseKernel(step, step.shape);
  ConvBackwardKernel(step.state.d_kernel, step.state.d_bias, step.d_output, step.input, step.input_tensor.zero_point,
                     step.channels, step.shape);
}

void DepthwiseKernel(const KernelStep& step) {
  DepthwiseBackwardKernel(step.state.d_kernel, step.state.d_bias, step.d_output, step.input, step.input_tensor.zero_point,
                          step.channels, step.shape);
}

void DenseKernel(const KernelStep& step) { PointwiseKernel(step, OnePixel(step.shape)); }

// ---- input_backward --------------------------------------------------------------------------------------------------------

void ConvInput(const InputStep& step, const WindowShape& s) {
  const std::int8_t* kernel = step.kernel.whole();
  const float* scales = step.layer.kernel_scales;
  if (kernel == nullptr) {
    ConvBackwardInputRows(step.d_input, step.d_output, step.kernel, scales, s);
  } else if (IsPointwise(s)) {
    PointwiseBackwardInput(step.d_input, step.d_output, kernel, scales, s.input_height * s.input_width, s.input_channels,
                           s.output_channels);
  } else {
    ConvBackwardInput(step.d_input, step.d_output, kernel, scales, s);
  }
}

void ConvInput(const InputStep& step) { ConvInput(step, step.shape); }

void DenseInput(const InputStep& step) { ConvInput(step, OnePixel(step.shape)); }

void DepthwiseInput(const InputStep& step) {
  DepthwiseBackwardInput(step.d_input, step.d_output, step.kernel.whole(), step.layer.kernel_scales, step.shape);
}

void IdentityInput(const InputStep& step) {
  IdentityBackward(step.d_input, step.d_output, step.accumulate, static_cast<std::size_t>(NumElements(step.input_tensor)));
}

void AveragePoolInput(const InputStep& step) { AveragePoolBackward(step.d_input, step.d_output, step.shape); }

void MaxPoolInput(const InputStep& step) { MaxPoolBackward(step.d_input, step.d_output, step.input, step.shape); }

// output = input where input > 0, else slope * input;  d_input = d_output where output > 0, else slope * d_output
void LeakyReluInput(const InputStep& step) {
  for (std::int32_t i = 0; i < NumElements(step.input_tensor); ++i) {
    const float slope = step.output[i] > step.output_tensor.zero_point ? 1.0f : step.layer.slope;
    step.d_input[i] = slope * step.d_output[i] + (step.accumulate ? step.d_input[i] : 0.0f);
  }
}

void PadInput(const InputStep& step) { PadBackward(step.d_input, step.d_output, step.shape); }

// ---- the rows: properties, is_valid, weights_per_channel, input_backward, kernel_backward -----------------------------------

constexpr OperatorRow kConv2D = {kNoProperty, &WindowsFit, &ConvWeights, &ConvInput, &ConvKernel};
constexpr OperatorRow kDepthwiseConv2D = {kColumnChannels, &ChannelWindowsFit, &WindowWeights, &DepthwiseInput,
                                          &DepthwiseKernel};
constexpr OperatorRow kDense = {kNoProperty, &OutputIsOnePixel, &DenseWeights, &DenseInput, &DenseKernel};
constexpr OperatorRow kAdd = {kTwoInputs | kInPlace, &ShapesAreEqual, nullptr, &IdentityInput, nullptr};
constexpr OperatorRow kAveragePool2D = {kNoProperty, &ChannelWindowsFit, nullptr, &AveragePoolInput, nullptr};
constexpr OperatorRow kActivation = {kInPlace, &ShapesAreEqual, nullptr, &IdentityInput, nullptr};
constexpr OperatorRow kReshape = {kInPlace, &SizesAreEqual, nullptr, &IdentityInput, nullptr};
constexpr OperatorRow kMaxPool2D = {kReadsInput, &ChannelWindowsFit, nullptr, &MaxPoolInput, nullptr};
constexpr OperatorRow kPad = {kNoProperty, &PadFits, nullptr, &PadInput, nullptr};
constexpr OperatorRow kLeakyRelu = {kInPlace | kReadsOutput, &LeakyReluFits, nullptr, &LeakyReluInput, nullptr};
constexpr OperatorRow kUnknown = {};

}  // namespace

const OperatorRow& RowOf(Operator op) {
  switch (op) {
    case Operator::kConv2D: return kConv2D;
    case Operator::kDepthwiseConv2D: return kDepthwiseConv2D;
    case Operator::kDense: return kDense;
    case Operator::kAdd: return kAdd;
    case Operator::kAveragePool2D: return kAveragePool2D;
    case Operator::kActivation: return kActivation;
    case Operator::kReshape: return kReshape;
    case Operator::kMaxPool2D: return kMaxPool2D;
    case Operator::kPad: return kPad;
    case Operator::kLeakyRelu: return kLeakyRelu;
  }
  return kUnknown;
}

WindowShape ShapeOf(const Layer& layer, const Tensor& input, const Tensor& output) {
  return {input.height,        input.width,        input.channels,      output.height,      output.width,  output.channels,
          layer.kernel_height, layer.kernel_width, layer.stride_height, layer.stride_width, layer.pad_top, layer.pad_left};
}

bool IsPointwise(const WindowShape& s) {
  return s.kernel_height == 1 && s.kernel_width == 1 && s.stride_height == 1 && s.stride_width == 1 &&
         s.input_height == s.output_height && s.input_width == s.output_width;
}

}  // namespace tinytrain
