#include "operators.h"

#include <cmath>
#include <cstring>

#include "fixedpoint/fixedpoint.h"

namespace tflite {
namespace {

struct Size {
  int height, width, channels;
};
struct Step {  // of the window: strides, and rows and columns of padding before the input
  int stride_h, stride_w, top, left;
};
struct Range {
  std::int32_t min, max;
};

Size SizeOf(const TfLiteIntArray& dims, int first) {
  if (dims.size == 4) return {dims.data[first], dims.data[first + 1], dims.data[(first + 2) % 4]};
  return {1, 1, dims.data[dims.size - 1]};
}

float Scale(const SubGraph& graph, std::int32_t tensor, std::uint32_t channel = 0) {
  const Vector<float>& scales = *graph.tensors()->Get(static_cast<std::uint32_t>(tensor))->quantization()->scale();
  return scales.Get(scales.size() == 1 ? 0 : channel);
}
std::int32_t ZeroPoint(const SubGraph& graph, std::int32_t tensor) {
  const auto* quantization = graph.tensors()->Get(static_cast<std::uint32_t>(tensor))->quantization();
  return static_cast<std::int32_t>(quantization->zero_point()->Get(0));
}

std::int32_t Rescale(std::int32_t x, std::int32_t multiplier, std::int32_t shift) {
  const std::int32_t left = shift > 0 ? x * (1 << shift) : x;
  return gemmlowp::RoundingDivideByPOT(gemmlowp::SaturatingRoundingDoublingHighMul(left, multiplier), shift > 0 ? 0 : -shift);
}

int PaddingBefore(bool same, int input, int output, int window, int stride) {
  const int total = (output - 1) * stride + window - input;
  return same && total > 0 ? total / 2 : 0;
}

std::int8_t Activation(const OperatorData& data) {
  if (data.code == BuiltinOperator_FULLY_CONNECTED) return data.op->options<FullyConnectedOptions>()->activation();
  return data.op->options<Conv2DOptions>()->activation(data.code == BuiltinOperator_DEPTHWISE_CONV_2D);
}

Range RangeOf(const SubGraph& graph, const OperatorData& data) {
  const std::int32_t output = data.op->outputs()->Get(0), zero = ZeroPoint(graph, output);
  constexpr std::int8_t kRelu = 1, kRelu6 = 3;
  const std::int8_t activation = Activation(data);
  Range range = {-128, 127};
  if (activation == kRelu || activation == kRelu6) range.min = zero > -128 ? zero : -128;
  if (activation != kRelu6) return range;
  const auto six = zero + static_cast<std::int32_t>(std::round(6.0f / Scale(graph, output)));
  range.max = six < 127 ? six : 127;
  return range;
}

struct Operands {
  const std::int8_t *input, *filter;
  Size input_size, filter_size;
  std::int32_t input_zero;
};

// The sum over the window of one output value. Filters: (channels, rows, columns, input channels); depthwise: (rows, columns,
// channels).
std::int32_t Sum(const Operands& x, const Step& step, bool depthwise, int row, int column, int channel, int num_channels) {
  std::int32_t sum = 0;
  for (int i = 0; i < x.filter_size.height; ++i) {
    for (int j = 0; j < x.filter_size.width; ++j) {
      const int from_row = row * step.stride_h - step.top + i, from_column = column * step.stride_w - step.left + j;
      if (from_row < 0 || from_row >= x.input_size.height || from_column < 0 || from_column >= x.input_size.width) continue;
      const int at = i * x.filter_size.width + j, inputs = x.input_size.channels;
      const std::int8_t* input = x.input + (from_row * x.input_size.width + from_column) * inputs;
      if (depthwise) {
        sum += (input[channel * inputs / num_channels] - x.input_zero) * x.filter[at * num_channels + channel];
        continue;
      }
      const std::int8_t* filter = x.filter + (channel * x.filter_size.height * x.filter_size.width + at) * inputs;
      for (int k = 0; k < inputs; ++k) sum += (input[k] - x.input_zero) * filter[k];
    }
  }
  return sum;
}

void Convolve(const SubGraph& graph, const TfLiteEvalTensor* tensors, const OperatorData& data) {
  const Vector<std::int32_t>& in = *data.op->inputs();
  const TfLiteEvalTensor &input = tensors[in.Get(0)], &filter = tensors[in.Get(1)],
                         &output = tensors[data.op->outputs()->Get(0)];
  const auto* bias = in.size() < 3 || in.Get(2) < 0 ? nullptr : static_cast<const std::int32_t*>(tensors[in.Get(2)].data.data);
  const bool dense = data.code == BuiltinOperator_FULLY_CONNECTED;
  Operands x = {input.data.int8, filter.data.int8, SizeOf(*input.dims, 1), SizeOf(*filter.dims, 1),
                ZeroPoint(graph, in.Get(0))};
  Step step = {1, 1, 0, 0};
  const Size size = SizeOf(*output.dims, 1);
  if (dense) {
    x.input_size = {1, 1, filter.dims->data[1]};
    x.filter_size = x.input_size;
  } else {
    const auto& options = *data.op->options<Conv2DOptions>();
    step = {options.stride_h(), options.stride_w(),
            PaddingBefore(options.same(), x.input_size.height, size.height, x.filter_size.height, options.stride_h()),
            PaddingBefore(options.same(), x.input_size.width, size.width, x.filter_size.width, options.stride_w())};
  }
  const Range range = RangeOf(graph, data);
  const std::int32_t zero = ZeroPoint(graph, data.op->outputs()->Get(0));
  std::int8_t* to = output.data.int8;
  for (int place = 0; place < size.height * size.width; ++place) {
    for (int channel = 0; channel < size.channels; ++channel) {
      const bool depthwise = data.code == BuiltinOperator_DEPTHWISE_CONV_2D;
      std::int32_t sum = Sum(x, step, depthwise, place / size.width, place % size.width, channel, size.channels);
      sum = Rescale(sum + (bias == nullptr ? 0 : bias[channel]), data.multipliers[channel], data.shifts[channel]) + zero;
      *to++ = static_cast<std::int8_t>(sum < range.min ? range.min : sum > range.max ? range.max : sum);
    }
  }
}

}  // namespace

bool IsConvolution(BuiltinOperator code) { return code != BuiltinOperator_RESHAPE; }

int OutputChannels(const TfLiteEvalTensor* tensors, const OperatorData& data) {
  return SizeOf(*tensors[data.op->outputs()->Get(0)].dims, 1).channels;
}

std::size_t ScratchBytes(const TfLiteEvalTensor* tensors, const OperatorData& data) {
#ifdef STAND_IN_SCRATCH
  if (data.code != BuiltinOperator_DEPTHWISE_CONV_2D) return 0;
  const Size filter = SizeOf(*tensors[data.op->inputs()->Get(1)].dims, 1);
  return static_cast<std::size_t>(2 * filter.height * filter.width * OutputChannels(tensors, data));
#else
  return static_cast<void>(tensors), static_cast<void>(data), 0;
#endif
}

// multiplier * 2^(shift - 31) = input scale * filter scale / output scale
void SetFactors(const SubGraph& graph, const OperatorData& data, int num_channels) {
  const float input = Scale(graph, data.op->inputs()->Get(0)), output = Scale(graph, data.op->outputs()->Get(0));
  for (int channel = 0; channel < num_channels; ++channel) {
    const float filter = Scale(graph, data.op->inputs()->Get(1), static_cast<std::uint32_t>(channel));
    const bool dense = data.code == BuiltinOperator_FULLY_CONNECTED;  // whose product TensorFlow Lite rounds to float
    const double product =
        dense ? static_cast<double>(input * filter) : static_cast<double>(input) * static_cast<double>(filter);
    int shift = 0;
    const double fraction = std::frexp(product / static_cast<double>(output), &shift);
    auto multiplier = static_cast<std::int64_t>(std::round(fraction * static_cast<double>(1ll << 31)));
    if (multiplier == 1ll << 31) {
      multiplier /= 2;
      ++shift;
    }
    data.multipliers[channel] = static_cast<std::int32_t>(multiplier);
    data.shifts[channel] = shift;
  }
}

void Run(const SubGraph& graph, const TfLiteEvalTensor* tensors, const OperatorData& data) {
  if (data.scratch != nullptr) std::memset(data.scratch, 0x5a, ScratchBytes(tensors, data));
  if (IsConvolution(data.code)) return Convolve(graph, tensors, data);
  const TfLiteEvalTensor &input = tensors[data.op->inputs()->Get(0)], &output = tensors[data.op->outputs()->Get(0)];
  std::size_t num_bytes = 1;
  for (int i = 0; i < input.dims->size; ++i) num_bytes *= static_cast<std::size_t>(input.dims->data[i]);
  std::memmove(output.data.data, input.data.data, num_bytes);
}

}  // namespace tflite
