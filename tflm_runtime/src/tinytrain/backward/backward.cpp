#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/backward/backward.h"

#include <cstring>

#include "tinytrain/kernels/kernels.h"
#include "tinytrain/backward/pass.h"
#include "tinytrain/kernels/pooling.h"

namespace tinytrain {
namespace {

// The layers of a pass from the last to the first.
class Walk {
 public:
  explicit Walk(const Pass& pass) : pass_(pass), tables_(pass.tables) {}

  void Run() const {
    for (std::int32_t l = tables_.num_layers - 1; l >= pass_.first; --l) {
      const Layer& layer = tables_.layers[l];
      if (!pass_.HasGradient(layer.output) || tables_.tensors[layer.output].num_planes > 0) continue;
      const TrainedState state = pass_.StateOf(l);
      const KernelRows kernel(tables_, layer, state);
      OutputBackward(l, state);
      if (l == pass_.first) continue;
      if (tables_.tensors[layer.input].num_planes > 0) {
        MiddleBackward(pass_, l, kernel);
      } else {
        InputsBackward(layer, kernel);
      }
    }
  }

 private:
  // Behind the activation -> before it, and the gradients of the layer's own weights.
  void OutputBackward(std::int32_t index, const TrainedState& state) const {
    const Layer& layer = tables_.layers[index];
    const Tensor& output = tables_.tensors[layer.output];
    float* d_output = pass_.Gradient(layer.output);
    if (layer.activation != Activation::kLinear) {
      ActivationBackward(d_output, pass_.Activations(layer.output), output.zero_point, UpperClamp(layer.activation, output),
                         static_cast<std::size_t>(NumElements(output)));
    }
    if (state.trained != nullptr) KernelBackward(state, d_output);
    float* const fisher = pass_.FisherOf(index);
    if (fisher != nullptr) AddFisher(fisher, d_output, pass_.Activations(layer.output), output);
  }

  void InputsBackward(const Layer& layer, const KernelRows& kernel) const {
    float* d_output = pass_.Gradient(layer.output);
    if (pass_.HasGradient(layer.input)) InputBackward(layer, layer.input, layer.accumulate_input, kernel, d_output);
    if (layer.op == Operator::kAdd && pass_.HasGradient(layer.input2)) {
      InputBackward(layer, layer.input2, layer.accumulate_input2, kernel, d_output);
    }
  }

  void KernelBackward(const TrainedState& state, const float* d_output) const {
    const Layer& layer = *state.layer;
    const Tensor& input = tables_.tensors[layer.input];
    const WindowShape shape = ShapeOf(layer, input, tables_.tensors[layer.output]);
    const ChannelList list = {state.trained->channels, state.trained->num_channels};
    const std::int8_t* x = pass_.Activations(layer.input);
    if (layer.op == Operator::kDepthwiseConv2D) {
      DepthwiseBackwardKernel(state.d_kernel, state.d_bias, d_output, x, input.zero_point, list, shape);
    } else if (layer.op == Operator::kDense) {
      PointwiseBackwardKernel(state.d_kernel, state.d_bias, d_output, x, input.zero_point, list, 1, NumElements(input),
                              shape.output_channels);
    } else if (IsPointwise(tables_, layer)) {
      PointwiseBackwardKernel(state.d_kernel, state.d_bias, d_output, x, input.zero_point, list,
                              shape.input_height * shape.input_width, shape.input_channels, shape.output_channels);
    } else {
      ConvBackwardKernel(state.d_kernel, state.d_bias, d_output, x, input.zero_point, list, shape);
    }
  }

  void InputBackward(const Layer& layer, std::int32_t tensor, bool accumulate, const KernelRows& kernel,
                     float* d_output) const {
    const Tensor& input = tables_.tensors[tensor];
    const auto num_elements = static_cast<std::size_t>(NumElements(input));
    float* d_input = pass_.Gradient(tensor);
    if (layer.op == Operator::kAdd || layer.op == Operator::kActivation || layer.op == Operator::kReshape) {
      IdentityBackward(d_input, d_output, accumulate, num_elements);
      return;
    }
    if (!accumulate) std::memset(d_input, 0, num_elements * sizeof(float));
    const WindowShape shape = ShapeOf(layer, input, tables_.tensors[layer.output]);
    if (layer.op == Operator::kAveragePool2D) {
      AveragePoolBackward(d_input, d_output, shape);
    } else if (layer.op == Operator::kMaxPool2D) {
      MaxPoolBackward(d_input, d_output, pass_.Activations(tensor), shape);
    } else if (layer.op == Operator::kPad) {
      PadBackward(d_input, d_output, shape);
    } else if (layer.op == Operator::kDepthwiseConv2D) {
      DepthwiseBackwardInput(d_input, d_output, kernel.whole(), layer.kernel_scales, shape);
    } else if (kernel.whole() == nullptr) {
      ConvBackwardInputRows(d_input, d_output, kernel, layer.kernel_scales,
                            layer.op == Operator::kDense ? OnePixel(shape) : shape);
    } else if (layer.op == Operator::kDense) {
      PointwiseBackwardInput(d_input, d_output, kernel.whole(), layer.kernel_scales, 1, NumElements(input),
                             shape.output_channels);
    } else if (IsPointwise(tables_, layer)) {
      PointwiseBackwardInput(d_input, d_output, kernel.whole(), layer.kernel_scales, shape.input_height * shape.input_width,
                             shape.input_channels, shape.output_channels);
    } else {
      ConvBackwardInput(d_input, d_output, kernel.whole(), layer.kernel_scales, shape);
    }
  }

  // A dense layer as a 1 x 1 convolution.
  static WindowShape OnePixel(const WindowShape& s) {
    return {1, 1, s.input_height * s.input_width * s.input_channels, 1, 1, s.output_channels, 1, 1, 1, 1, 0, 0};
  }

  const Pass& pass_;
  const Tables& tables_;
};

}  // namespace

WindowShape ShapeOf(const Layer& layer, const Tensor& input, const Tensor& output) {
  WindowShape shape;
  shape.input_height = input.height;
  shape.input_width = input.width;
  shape.input_channels = input.channels;
  shape.output_height = output.height;
  shape.output_width = output.width;
  shape.output_channels = output.channels;
  shape.kernel_height = layer.kernel_height;
  shape.kernel_width = layer.kernel_width;
  shape.stride_height = layer.stride_height;
  shape.stride_width = layer.stride_width;
  shape.pad_top = layer.pad_top;
  shape.pad_left = layer.pad_left;
  return shape;
}

std::int32_t UpperClamp(Activation activation, const Tensor& output) {
  if (activation != Activation::kRelu6) return 128;
  const float six = 6.0f / output.scale + 0.5f;
  if (six >= 256.0f) return 127;
  const std::int32_t upper = output.zero_point + static_cast<std::int32_t>(six);
  return upper < 127 ? upper : 127;
}

const std::int8_t* Pass::Activations(std::int32_t tensor) const {
  const std::int32_t kept = tables.tensors[tensor].kept;
  return kept == kStoredSample ? features : outputs[kept];
}

TrainedState Pass::StateOf(std::int32_t index) const {
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    if (tables.trained[t].layer == index) return TrainedAt(tables, buffers, t);
  }
  return TrainedState{};
}

float* GradientOf(const Tables& tables, const Buffers& buffers, std::int32_t tensor) {
  return static_cast<float*>(static_cast<void*>(buffers.activations + tables.tensors[tensor].gradient_offset));
}

void Backward(const Tables& tables, const Buffers& buffers, const std::int8_t* features, const std::int8_t* const* outputs) {
  Walk(Pass{tables, buffers, features, outputs, tables.trained[0].layer, nullptr}).Run();
}

void BackwardFisher(const Tables& tables, const Buffers& buffers, const std::int8_t* features,
                    const std::int8_t* const* outputs, const FisherSums& sums) {
  Walk(Pass{tables, buffers, features, outputs, sums.candidates[0].layer, &sums}).Run();
}

std::uint32_t ChannelMacs(const Tables& tables, const Layer& layer) {
  if (!HasKernel(layer.op)) return 0;
  const Tensor& output = tables.tensors[layer.output];
  return static_cast<std::uint32_t>(output.height * output.width) *
         static_cast<std::uint32_t>(LayoutOf(tables, layer).weights_per_channel);
}

std::uint32_t BackwardMacs(const Tables& tables) {
  std::uint32_t macs = 0;
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    const TrainedLayer& trained = tables.trained[t];
    macs += ChannelMacs(tables, tables.layers[trained.layer]) * static_cast<std::uint32_t>(trained.num_channels);
  }
  for (std::int32_t l = tables.trained[0].layer + 1; l < tables.num_layers; ++l) {
    const Layer& layer = tables.layers[l];
    const Tensor& output = tables.tensors[layer.output];
    if (output.gradient_offset == kNone) continue;
    macs += ChannelMacs(tables, layer) * static_cast<std::uint32_t>(output.channels);
  }
  return macs;
}

void FinishWeightGradients(const Tables& tables, const Buffers& buffers, std::int32_t num_samples) {
  const float mean = 1.0f / static_cast<float>(num_samples);
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    const TrainedState state = TrainedAt(tables, buffers, t);
    const float factor = state.input_scale * mean;
    const std::int32_t num_channels = state.trained->num_channels;
    for (std::int32_t i = 0; i < num_channels * state.layout.weights_per_channel; ++i) state.d_kernel[i] *= factor;
    if (state.d_bias == nullptr) continue;
    for (std::int32_t n = 0; n < num_channels; ++n) state.d_bias[n] *= mean;
  }
}

}  // namespace tinytrain
