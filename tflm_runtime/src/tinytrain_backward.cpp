#include "tinytrain_strict_float.h"

#include "tinytrain_backward.h"

#include <cstring>

#include "tinytrain_kernels.h"

namespace tinytrain {
namespace {

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

bool IsPointwise(const WindowShape& s) {
  return s.kernel_height == 1 && s.kernel_width == 1 && s.stride_height == 1 && s.stride_width == 1 &&
         s.input_height == s.output_height && s.input_width == s.output_width;
}

// The int8 value from which ReLU6 clamps, in TensorFlow Lite's own rounding; 128 (never) for ReLU.
std::int32_t UpperClamp(Activation activation, const Tensor& output) {
  if (activation != Activation::kRelu6) return 128;
  const float six = 6.0f / output.scale + 0.5f;
  if (six >= 256.0f) return 127;
  const std::int32_t upper = output.zero_point + static_cast<std::int32_t>(six);
  return upper < 127 ? upper : 127;
}

// One sample's pass.
class Pass {
 public:
  Pass(const Tables& tables, const Buffers& buffers, const std::int8_t* features, const std::int8_t* const* outputs)
      : tables_(tables), buffers_(buffers), features_(features), outputs_(outputs) {}

  void Run() const {
    std::int32_t trained = tables_.num_trained - 1;
    for (std::int32_t l = tables_.num_layers - 1; l >= 0; --l) {
      const bool is_trained = trained >= 0 && tables_.trained[trained].layer == l;
      if (HasGradient(tables_.layers[l].output)) LayerBackward(tables_.layers[l], is_trained ? trained : kNone);
      if (is_trained) --trained;
    }
  }

 private:
  bool HasGradient(std::int32_t tensor) const { return tables_.tensors[tensor].gradient_offset != kNone; }

  const std::int8_t* Activations(std::int32_t tensor) const {
    const std::int32_t kept = tables_.tensors[tensor].kept;
    return kept == kStoredSample ? features_ : outputs_[kept];
  }

  void LayerBackward(const Layer& layer, std::int32_t trained) const {
    const Tensor& output = tables_.tensors[layer.output];
    float* d_output = GradientOf(tables_, buffers_, layer.output);
    if (layer.activation != Activation::kLinear) {
      ActivationBackward(d_output, Activations(layer.output), output.zero_point, UpperClamp(layer.activation, output),
                         static_cast<std::size_t>(NumElements(output)));
    }
    const std::int8_t* kernel = layer.kernel;
    if (trained != kNone) {
      const TrainedState state = TrainedAt(tables_, buffers_, trained);
      KernelBackward(state, d_output);
      kernel = state.kernel;
    }
    if (HasGradient(layer.input)) InputBackward(layer, layer.input, layer.accumulate_input, kernel, d_output);
    if (layer.op == Operator::kAdd && HasGradient(layer.input2)) {
      InputBackward(layer, layer.input2, layer.accumulate_input2, kernel, d_output);
    }
  }

  void KernelBackward(const TrainedState& state, const float* d_output) const {
    const Layer& layer = *state.layer;
    const Tensor& input = tables_.tensors[layer.input];
    const WindowShape shape = ShapeOf(layer, input, tables_.tensors[layer.output]);
    const ChannelList list = {state.trained->channels, state.trained->num_channels};
    const std::int8_t* x = Activations(layer.input);
    if (layer.op == Operator::kDepthwiseConv2D) {
      DepthwiseBackwardKernel(state.d_kernel, state.d_bias, d_output, x, input.zero_point, list, shape);
    } else if (layer.op == Operator::kDense) {
      PointwiseBackwardKernel(state.d_kernel, state.d_bias, d_output, x, input.zero_point, list, 1, NumElements(input),
                              shape.output_channels);
    } else if (IsPointwise(shape)) {
      PointwiseBackwardKernel(state.d_kernel, state.d_bias, d_output, x, input.zero_point, list,
                              shape.input_height * shape.input_width, shape.input_channels, shape.output_channels);
    } else {
      ConvBackwardKernel(state.d_kernel, state.d_bias, d_output, x, input.zero_point, list, shape);
    }
  }

  void InputBackward(const Layer& layer, std::int32_t tensor, bool accumulate, const std::int8_t* kernel,
                     const float* d_output) const {
    const Tensor& input = tables_.tensors[tensor];
    const auto num_elements = static_cast<std::size_t>(NumElements(input));
    float* d_input = GradientOf(tables_, buffers_, tensor);
    if (layer.op == Operator::kAdd || layer.op == Operator::kActivation || layer.op == Operator::kReshape) {
      IdentityBackward(d_input, d_output, accumulate, num_elements);
      return;
    }
    if (!accumulate) std::memset(d_input, 0, num_elements * sizeof(float));
    const WindowShape shape = ShapeOf(layer, input, tables_.tensors[layer.output]);
    if (layer.op == Operator::kAveragePool2D) {
      AveragePoolBackward(d_input, d_output, shape);
    } else if (layer.op == Operator::kDepthwiseConv2D) {
      DepthwiseBackwardInput(d_input, d_output, kernel, layer.kernel_scales, shape);
    } else if (layer.op == Operator::kDense) {
      PointwiseBackwardInput(d_input, d_output, kernel, layer.kernel_scales, 1, NumElements(input), shape.output_channels);
    } else if (IsPointwise(shape)) {
      PointwiseBackwardInput(d_input, d_output, kernel, layer.kernel_scales, shape.input_height * shape.input_width,
                             shape.input_channels, shape.output_channels);
    } else {
      ConvBackwardInput(d_input, d_output, kernel, layer.kernel_scales, shape);
    }
  }

  const Tables& tables_;
  const Buffers& buffers_;
  const std::int8_t* features_;
  const std::int8_t* const* outputs_;
};

}  // namespace

float* GradientOf(const Tables& tables, const Buffers& buffers, std::int32_t tensor) {
  return static_cast<float*>(static_cast<void*>(buffers.activations + tables.tensors[tensor].gradient_offset));
}

void Backward(const Tables& tables, const Buffers& buffers, const std::int8_t* features, const std::int8_t* const* outputs) {
  Pass(tables, buffers, features, outputs).Run();
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
