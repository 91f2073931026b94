#include "tinytrain_strict_float.h"

#include "tinytrain_backward.h"

#include <cstring>

#include "tinytrain_kernels.h"
#include "tinytrain_pooling.h"
#include "tinytrain_rows.h"

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

// The int8 value from which ReLU6 clamps, in TensorFlow Lite's own rounding; 128 (never) for ReLU.
std::int32_t UpperClamp(Activation activation, const Tensor& output) {
  if (activation != Activation::kRelu6) return 128;
  const float six = 6.0f / output.scale + 0.5f;
  if (six >= 256.0f) return 127;
  const std::int32_t upper = output.zero_point + static_cast<std::int32_t>(six);
  return upper < 127 ? upper : 127;
}

// One channel of a trained layer after the other, in ascending order.
class Cursor {
 public:
  explicit Cursor(const TrainedState& state) : state_(state) {}

  // Whether `channel` is trained; `n` is then its place in the list.
  bool At(std::int32_t channel, std::int32_t* n) {
    if (state_.trained == nullptr || next_ >= state_.trained->num_channels || state_.trained->channels[next_] != channel) {
      return false;
    }
    *n = next_++;
    return true;
  }
  float* Kernel(std::int32_t n) const { return state_.d_kernel + n * state_.layout.weights_per_channel; }
  float* Bias(std::int32_t n) const { return state_.d_bias == nullptr ? nullptr : state_.d_bias + n; }

 private:
  const TrainedState& state_;
  std::int32_t next_ = 0;
};

// One sample's pass, down to layer `first`: to gradients of trained weights or, with `fisher`, to the candidates' sums.
class Pass {
 public:
  Pass(const Tables& tables, const Buffers& buffers, const std::int8_t* features, const std::int8_t* const* outputs,
       std::int32_t first, const FisherSums* fisher)
      : tables_(tables), buffers_(buffers), features_(features), outputs_(outputs), first_(first), fisher_(fisher) {}

  void Run() const {
    for (std::int32_t l = tables_.num_layers - 1; l >= first_; --l) {
      const Layer& layer = tables_.layers[l];
      if (!HasGradient(layer.output) || tables_.tensors[layer.output].num_planes > 0) continue;
      const TrainedState state = StateOf(l);
      const KernelRows kernel(tables_, layer, state);
      OutputBackward(l, state);
      if (l == first_) continue;
      if (tables_.tensors[layer.input].num_planes > 0) {
        MiddleBackward(l, kernel);
      } else {
        InputsBackward(layer, kernel);
      }
    }
  }

 private:
  bool HasGradient(std::int32_t tensor) const { return tables_.tensors[tensor].gradient_offset != kNone; }

  const std::int8_t* Activations(std::int32_t tensor) const {
    const std::int32_t kept = tables_.tensors[tensor].kept;
    return kept == kStoredSample ? features_ : outputs_[kept];
  }

  // All nullptr if layer `index` is not trained.
  TrainedState StateOf(std::int32_t index) const {
    for (std::int32_t t = 0; t < tables_.num_trained; ++t) {
      if (tables_.trained[t].layer == index) return TrainedAt(tables_, buffers_, t);
    }
    return TrainedState{};
  }

  // The sums of layer `index`; nullptr where it is not scored.
  float* FisherOf(std::int32_t index) const { return fisher_ == nullptr ? nullptr : fisher_->Of(index); }

  // Behind the activation -> before it, and the gradients of the layer's own weights.
  void OutputBackward(std::int32_t index, const TrainedState& state) const {
    const Layer& layer = tables_.layers[index];
    const Tensor& output = tables_.tensors[layer.output];
    float* d_output = GradientOf(tables_, buffers_, layer.output);
    if (layer.activation != Activation::kLinear) {
      ActivationBackward(d_output, Activations(layer.output), output.zero_point, UpperClamp(layer.activation, output),
                         static_cast<std::size_t>(NumElements(output)));
    }
    if (state.trained != nullptr) KernelBackward(state, d_output);
    float* const fisher = FisherOf(index);
    if (fisher != nullptr) AddFisher(fisher, d_output, Activations(layer.output), output);
  }

  void InputsBackward(const Layer& layer, const KernelRows& kernel) const {
    float* d_output = GradientOf(tables_, buffers_, layer.output);
    if (HasGradient(layer.input)) InputBackward(layer, layer.input, layer.accumulate_input, kernel, d_output);
    if (layer.op == Operator::kAdd && HasGradient(layer.input2)) {
      InputBackward(layer, layer.input2, layer.accumulate_input2, kernel, d_output);
    }
  }

  // Of one channel: behind the activation -> before it; `fisher` are the layer's sums, or nullptr.
  void PlaneActivationBackward(const Layer& layer, float* plane, std::int32_t channel, float* fisher) const {
    const Tensor& output = tables_.tensors[layer.output];
    if (layer.activation != Activation::kLinear) {
      ActivationBackwardPlane(plane, Activations(layer.output), output.zero_point, UpperClamp(layer.activation, output), channel,
                              output.height * output.width, output.channels);
    }
    if (fisher != nullptr) AddFisherPlane(fisher + channel, plane, Activations(layer.output), output, channel);
  }

  // From the output of the block's last layer, `index`, to the depthwise convolution before it and, where a gradient goes on,
  // through the 1 x 1 convolution before that.
  void MiddleBackward(std::int32_t index, const KernelRows& project_kernel) const {
    const Layer& project = tables_.layers[index];
    const Layer& depthwise = tables_.layers[index - 1];
    const Tensor& output = tables_.tensors[project.output];
    const Tensor& middle = tables_.tensors[project.input];
    const TrainedState state = StateOf(index - 1);
    const std::int8_t* kernel = state.trained == nullptr ? depthwise.kernel : state.kernel;
    const DepthwiseShape shape(ShapeOf(depthwise, tables_.tensors[depthwise.input], middle));
    const std::int32_t num_pixels = output.height * output.width;
    float* d_output = GradientOf(tables_, buffers_, project.output);
    float* d_middle = GradientOf(tables_, buffers_, project.input);
    ScaleChannels(d_output, project.kernel_scales, num_pixels, output.channels);
    const bool goes_on = HasGradient(depthwise.input) && index - 2 >= first_;
    float* const fisher = FisherOf(index - 1);
    Expansion expansion(*this, goes_on ? index - 2 : kNone);
    Cursor trained(state);
    for (std::int32_t c = 0; c < middle.channels; ++c) {
      std::int32_t n = kNone;
      const bool is_trained = trained.At(c, &n) || fisher != nullptr;
      const bool is_wanted = goes_on && expansion.Wants(c);
      if (!is_trained && !is_wanted) continue;
      if (project_kernel.whole() != nullptr) {
        PointwiseBackwardPlane(d_middle, d_output, project_kernel.whole(), c, num_pixels, middle.channels, output.channels);
      } else {
        PointwiseBackwardPlaneRows(d_middle, d_output, project_kernel, c, num_pixels, middle.channels);
      }
      PlaneActivationBackward(depthwise, d_middle, c, fisher);
      if (n != kNone) {
        DepthwiseBackwardPlaneKernel(trained.Kernel(n), trained.Bias(n), d_middle, Activations(depthwise.input),
                                     tables_.tensors[depthwise.input].zero_point, c, shape);
      }
      if (is_wanted) expansion.Add(c, d_middle, kernel, depthwise.kernel_scales[c], shape);
    }
    expansion.Finish();
  }

  // The 1 x 1 convolution at the block's beginning, some of its output channels at a time.
  class Expansion {
   public:
    Expansion(const Pass& pass, std::int32_t index)
        : pass_(pass), layer_(index == kNone ? nullptr : &pass.tables_.layers[index]),
          state_(index == kNone ? TrainedState{} : pass.StateOf(index)), trained_(state_),
          fisher_(index == kNone ? nullptr : pass.FisherOf(index)) {
      if (layer_ == nullptr || index == pass.first_ || !pass.HasGradient(layer_->input)) return;
      d_input_ = GradientOf(pass.tables_, pass.buffers_, layer_->input);
      const auto num_elements = static_cast<std::size_t>(NumElements(Input()));
      if (!layer_->accumulate_input) std::memset(d_input_, 0, num_elements * sizeof(float));
    }

    // Asked for each channel in turn, once: whether the gradient of channel `channel` is of any use.
    bool Wants(std::int32_t channel) {
      is_trained_ = trained_.At(channel, &n_);
      return is_trained_ || d_input_ != nullptr || fisher_ != nullptr;
    }

    // From the plane behind the depthwise convolution to this layer's and, once there are as many as may be, on.
    void Add(std::int32_t channel, const float* d_middle, const std::int8_t* depthwise_kernel, float depthwise_scale,
             const DepthwiseShape& shape) {
      const std::int32_t num_pixels = NumPixels();
      float* plane = Planes() + num_planes_ * num_pixels;
      std::memset(plane, 0, static_cast<std::size_t>(num_pixels) * sizeof(float));
      DepthwiseBackwardPlane(plane, d_middle, depthwise_kernel, depthwise_scale, channel, shape);
      pass_.PlaneActivationBackward(*layer_, plane, channel, fisher_);
      if (is_trained_) {
        if (num_trained_ == 0) first_trained_ = n_;
        trained_planes_[num_trained_++] = static_cast<std::uint16_t>(num_planes_);
      }
      if (num_planes_ == 0) first_channel_ = channel;
      if (++num_planes_ == Output().num_planes) Finish();
    }

    // From the planes that were added to this layer's weights and input.
    void Finish() {
      if (num_trained_ > 0) {
        PointwiseBackwardKernelPlanes(trained_.Kernel(first_trained_), trained_.Bias(first_trained_), Planes(),
                                      pass_.Activations(layer_->input), Input().zero_point, {trained_planes_, num_trained_},
                                      NumPixels(), Input().channels);
      }
      if (d_input_ != nullptr) InputBackward();
      num_planes_ = num_trained_ = 0;
    }

   private:
    const Tensor& Input() const { return pass_.tables_.tensors[layer_->input]; }
    const Tensor& Output() const { return pass_.tables_.tensors[layer_->output]; }
    float* Planes() const { return GradientOf(pass_.tables_, pass_.buffers_, layer_->output); }
    std::int32_t NumPixels() const { return Input().height * Input().width; }

    // Of all channels there is a plane then, so that these follow each other.
    void InputBackward() {
      const KernelRows kernel(pass_.tables_, *layer_, state_);
      const std::int32_t end = first_channel_ + num_planes_;
      for (tinytrain::Run run{first_channel_, 0, nullptr}; run.first < end; run.first += run.count) {
        run = kernel.RunFrom(run.first);
        const std::int32_t count = run.first + run.count < end ? run.count : end - run.first;
        PointwiseBackwardInputPlanes(d_input_, Planes() + (run.first - first_channel_) * NumPixels(), run.rows,
                                     layer_->kernel_scales + run.first, NumPixels(), Input().channels, count);
      }
    }

    const Pass& pass_;
    const Layer* layer_;
    const TrainedState state_;
    Cursor trained_;
    float* const fisher_;
    float* d_input_ = nullptr;
    bool is_trained_ = false;
    std::int32_t n_ = kNone;
    std::uint16_t trained_planes_[kMaxPlanes];
    std::int32_t num_planes_ = 0, num_trained_ = 0, first_channel_ = kNone, first_trained_ = kNone;
  };

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
    float* d_input = GradientOf(tables_, buffers_, tensor);
    if (layer.op == Operator::kAdd || layer.op == Operator::kActivation || layer.op == Operator::kReshape) {
      IdentityBackward(d_input, d_output, accumulate, num_elements);
      return;
    }
    if (!accumulate) std::memset(d_input, 0, num_elements * sizeof(float));
    const WindowShape shape = ShapeOf(layer, input, tables_.tensors[layer.output]);
    if (layer.op == Operator::kAveragePool2D) {
      AveragePoolBackward(d_input, d_output, shape);
    } else if (layer.op == Operator::kMaxPool2D) {
      MaxPoolBackward(d_input, d_output, Activations(tensor), shape);
    } else if (layer.op == Operator::kPad) {
      PadBackward(d_input, d_output, shape);
    } else if (layer.op == Operator::kDepthwiseConv2D) {
      DepthwiseBackwardInput(d_input, d_output, kernel.whole(), layer.kernel_scales, shape);
    } else if (kernel.whole() == nullptr) {
      ConvBackwardInputRows(d_input, d_output, kernel, layer.kernel_scales, layer.op == Operator::kDense ? OnePixel(shape) : shape);
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

  const Tables& tables_;
  const Buffers& buffers_;
  const std::int8_t* features_;
  const std::int8_t* const* outputs_;
  const std::int32_t first_;
  const FisherSums* const fisher_;
};

}  // namespace

float* GradientOf(const Tables& tables, const Buffers& buffers, std::int32_t tensor) {
  return static_cast<float*>(static_cast<void*>(buffers.activations + tables.tensors[tensor].gradient_offset));
}

void Backward(const Tables& tables, const Buffers& buffers, const std::int8_t* features, const std::int8_t* const* outputs) {
  Pass(tables, buffers, features, outputs, tables.trained[0].layer, nullptr).Run();
}

void BackwardFisher(const Tables& tables, const Buffers& buffers, const std::int8_t* features,
                    const std::int8_t* const* outputs, const FisherSums& sums) {
  Pass(tables, buffers, features, outputs, sums.candidates[0].layer, &sums).Run();
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
