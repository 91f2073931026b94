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

bool PositionsAreEqual(const Layer&, const Tensor& input, const Tensor& output) {
  return input.height * input.width == output.height * output.width;
}

bool ShapesAreEqual(const Layer&, const Tensor& input, const Tensor& output) {
  return input.height == output.height && input.width == output.width && input.channels == output.channels;
}

bool LeakyReluFits(const Layer& layer, const Tensor& input, const Tensor& output) {
  return ShapesAreEqual(layer, input, output) && layer.slope >= 0.0f && IsFinite(layer.slope);
}

bool ScaleFits(const Layer& layer, const Tensor& input, const Tensor& output) {
  return ShapesAreEqual(layer, input, output) && IsFinite(layer.slope);
}

bool PreluFits(const Layer& layer, const Tensor& input, const Tensor& output) {
  if (!ShapesAreEqual(layer, input, output) || layer.kernel_scales == nullptr) return false;
  for (std::int32_t c = 0; c < output.channels; ++c) {
    if (!(layer.kernel_scales[c] >= 0.0f) || !IsFinite(layer.kernel_scales[c])) return false;
  }
  return true;
}

// One factor of a product: as large as the output, or one value a channel.
bool FactorFits(const Layer& layer, const Tensor& input, const Tensor& output) {
  return ShapesAreEqual(layer, input, output) || (input.height == 1 && input.width == 1 && input.channels == output.channels);
}

bool PartFits(const Layer&, const Tensor& input, const Tensor& output) {
  return input.height == output.height && input.width == output.width && input.channels < output.channels;
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

std::int64_t ChannelWeights(const Layer&, const Tensor& input) { return input.channels; }

// ---- kernel_backward -------------------------------------------------------------------------------------------------------

// A dense layer as a 1 x 1 convolution.
WindowShape OnePixel(const WindowShape& s) {
  return {1, 1, s.input_height * s.input_width * s.input_channels, 1, 1, s.output_channels, 1, 1, 1, 1, 0, 0};
}

// A dense layer along the channels, as a 1 x 1 convolution.
WindowShape OneRow(const WindowShape& s) {
  const std::int32_t width = s.input_height * s.input_width;
  return {1, width, s.input_channels, 1, width, s.output_channels, 1, 1, 1, 1, 0, 0};
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

void DenseAlongKernel(const KernelStep& step) { PointwiseKernel(step, OneRow(step.shape)); }

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

void DenseAlongInput(const InputStep& step) { ConvInput(step, OneRow(step.shape)); }

void DepthwiseInput(const InputStep& step) {
  DepthwiseBackwardInput(step.d_input, step.d_output, step.kernel.whole(), step.layer.kernel_scales, step.shape);
}

void IdentityInput(const InputStep& step) {
  IdentityBackward(step.d_input, step.d_output, step.accumulate, static_cast<std::size_t>(NumElements(step.input_tensor)));
}

void AveragePoolInput(const InputStep& step) { AveragePoolBackward(step.d_input, step.d_output, step.shape); }

void MaxPoolInput(const InputStep& step) { MaxPoolBackward(step.d_input, step.d_output, step.input, step.shape); }

float RealValue(const Tensor& tensor, std::int8_t q) { return tensor.scale * static_cast<float>(q - tensor.zero_point); }

// output[i] = f(input[i]);  d_input[i] = derivative(i) * d_output[i]
template <typename Derivative>
void Elementwise(const InputStep& step, const Derivative& derivative) {
  for (std::int32_t i = 0; i < NumElements(step.input_tensor); ++i) {
    step.d_input[i] = derivative(i) * step.d_output[i] + (step.accumulate ? step.d_input[i] : 0.0f);
  }
}

// output = input where input > 0, else slope * input;  derivative: 1 where output > 0, else slope
void LeakyReluInput(const InputStep& step) {
  Elementwise(step,
              [&step](std::int32_t i) { return step.output[i] > step.output_tensor.zero_point ? 1.0f : step.layer.slope; });
}

void PreluInput(const InputStep& step) {
  Elementwise(step, [&step](std::int32_t i) {
    return step.output[i] > step.output_tensor.zero_point ? 1.0f : step.layer.kernel_scales[i % step.output_tensor.channels];
  });
}

void ScaleInput(const InputStep& step) {
  Elementwise(step, [&step](std::int32_t) { return step.layer.slope; });
}

// output = 1 / (1 + e^-input);  derivative: output (1 - output)
void LogisticInput(const InputStep& step) {
  Elementwise(step, [&step](std::int32_t i) {
    const float output = RealValue(step.output_tensor, step.output[i]);
    return output * (1.0f - output);
  });
}

// output = tanh(input);  derivative: 1 - output^2
void TanhInput(const InputStep& step) {
  Elementwise(step, [&step](std::int32_t i) {
    const float output = RealValue(step.output_tensor, step.output[i]);
    return 1.0f - output * output;
  });
}

// output = input where input > 0, else e^input - 1;  derivative: 1 where output > 0, else output + 1
void EluInput(const InputStep& step) {
  Elementwise(step, [&step](std::int32_t i) {
    const float output = RealValue(step.output_tensor, step.output[i]);
    return output > 0.0f ? 1.0f : output + 1.0f;
  });
}

// output = input (input + 3) / 6 for input from -3 to 3, 0 below, input above;  derivative: (2 input + 3) / 6, 0, 1
void HardSwishInput(const InputStep& step) {
  Elementwise(step, [&step](std::int32_t i) {
    const float input = RealValue(step.input_tensor, step.input[i]);
    if (input <= -3.0f) return 0.0f;
    return input >= 3.0f ? 1.0f : (2.0f * input + 3.0f) / 6.0f;
  });
}

// output[p][c] = input[p][c] * other[p][c], where a factor of 1 x 1 has one p;  d_input[p][c] += other[p][c] * d_output[p][c]
void MultiplyInput(const InputStep& step) {
  const std::int32_t num_channels = step.output_tensor.channels, size = NumElements(step.output_tensor);
  const std::int32_t step_input = NumElements(step.input_tensor) == size ? num_channels : 0;
  const std::int32_t step_other = NumElements(*step.other_tensor) == size ? num_channels : 0;
  const float* d_output = step.d_output;
  for (std::int32_t p = 0; p < size / num_channels; ++p) {
    for (std::int32_t c = 0; c < num_channels; ++c) {
      step.d_input[p * step_input + c] += RealValue(*step.other_tensor, step.other[p * step_other + c]) * *d_output++;
    }
  }
}

// output[p] = {input[p], input2[p]};  d_input[p][c] += d_output[p][first + c]
void ConcatenateInput(const InputStep& step) {
  const std::int32_t num_channels = step.input_tensor.channels, all = step.output_tensor.channels;
  const float* d_output = step.d_output + (step.is_second ? all - num_channels : 0);
  for (std::int32_t p = 0; p < NumElements(step.input_tensor) / num_channels; ++p) {
    for (std::int32_t c = 0; c < num_channels; ++c) step.d_input[p * num_channels + c] += d_output[p * all + c];
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
constexpr OperatorRow kMultiply = {kTwoInputs | kReadsOther, &FactorFits, nullptr, &MultiplyInput, nullptr};
constexpr OperatorRow kScale = {kInPlace, &ScaleFits, nullptr, &ScaleInput, nullptr};
constexpr OperatorRow kLogistic = {kInPlace | kReadsOutput, &ShapesAreEqual, nullptr, &LogisticInput, nullptr};
constexpr OperatorRow kHardSwish = {kInPlace | kReadsInput, &ShapesAreEqual, nullptr, &HardSwishInput, nullptr};
constexpr OperatorRow kConcatenate = {kTwoInputs, &PartFits, nullptr, &ConcatenateInput, nullptr};
constexpr OperatorRow kTanh = {kInPlace | kReadsOutput, &ShapesAreEqual, nullptr, &TanhInput, nullptr};
constexpr OperatorRow kElu = {kInPlace | kReadsOutput, &ShapesAreEqual, nullptr, &EluInput, nullptr};
constexpr OperatorRow kPrelu = {kInPlace | kReadsOutput, &PreluFits, nullptr, &PreluInput, nullptr};
constexpr OperatorRow kDenseAlong = {kNoProperty, &PositionsAreEqual, &ChannelWeights, &DenseAlongInput, &DenseAlongKernel};
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
    case Operator::kMultiply: return kMultiply;
    case Operator::kScale: return kScale;
    case Operator::kLogistic: return kLogistic;
    case Operator::kHardSwish: return kHardSwish;
    case Operator::kConcatenate: return kConcatenate;
    case Operator::kTanh: return kTanh;
    case Operator::kElu: return kElu;
    case Operator::kPrelu: return kPrelu;
    case Operator::kDenseAlong: return kDenseAlong;
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
