#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/backward/pass.h"

#include <cstring>

#include "tinytrain/backward/operators.h"

namespace tinytrain {
namespace {

// The trained channels of a layer, in ascending order.
class Cursor {
 public:
  explicit Cursor(const TrainedState& state) : state_(state) {}

  // Whether `channel` is trained; if so, `n` is its place in the list.
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

// One channel: from the activation's output to its input. `fisher`: the layer's sums, or nullptr.
void PlaneActivationBackward(const Pass& pass, const Layer& layer, float* plane, std::int32_t channel, float* fisher) {
  const Tensor& output = pass.tables.tensors[layer.output];
  if (layer.activation != Activation::kLinear) {
    ActivationBackwardPlane(plane, pass.Activations(layer.output), output.zero_point, UpperClamp(layer.activation, output),
                            channel, output.height * output.width, output.channels);
  }
  if (fisher != nullptr) AddFisherPlane(fisher + channel, plane, pass.Activations(layer.output), output, channel);
}

// The 1 x 1 convolution at the beginning of the block, some of its output channels at a time.
class Expansion {
 public:
  Expansion(const Pass& pass, std::int32_t index)
      : pass_(pass),
        layer_(index == kNone ? nullptr : &pass.tables.layers[index]),
        state_(index == kNone ? TrainedState{} : pass.StateOf(index)),
        trained_(state_),
        fisher_(index == kNone ? nullptr : pass.FisherOf(index)) {
    if (layer_ == nullptr || index == pass.first || !pass.HasGradient(layer_->input)) return;
    d_input_ = pass.Gradient(layer_->input);
    const auto num_elements = static_cast<std::size_t>(NumElements(Input()));
    if (!layer_->accumulate_input) std::memset(d_input_, 0, num_elements * sizeof(float));
  }

  // Whether the gradients of all channels are needed.
  bool WantsAll() const { return d_input_ != nullptr || fisher_ != nullptr; }

  // Whether the gradient of `channel` is needed. To be asked once for each channel in turn.
  bool Wants(std::int32_t channel) {
    is_trained_ = trained_.At(channel, &n_);
    return is_trained_ || WantsAll();
  }

  // From the plane of the depthwise convolution's output to this layer's plane. Calls Finish when all planes are in use.
  void Add(std::int32_t channel, const float* d_interior, const std::int8_t* depthwise_kernel, float depthwise_scale,
           const DepthwiseShape& shape) {
    const std::int32_t num_pixels = NumPixels();
    float* plane = Planes() + num_planes_ * num_pixels;
    std::memset(plane, 0, static_cast<std::size_t>(num_pixels) * sizeof(float));
    DepthwiseBackwardPlane(plane, d_interior, depthwise_kernel, depthwise_scale, channel, shape);
    PlaneActivationBackward(pass_, *layer_, plane, channel, fisher_);
    if (is_trained_) {
      if (num_trained_ == 0) first_trained_ = n_;
      trained_planes_[num_trained_++] = static_cast<std::uint16_t>(num_planes_);
    }
    if (num_planes_ == 0) first_channel_ = channel;
    if (++num_planes_ == Output().num_planes) Finish();
  }

  // From the added planes to the gradients of this layer's weights and input.
  void Finish() {
    if (num_trained_ > 0) {
      PointwiseBackwardKernelPlanes(trained_.Kernel(first_trained_), trained_.Bias(first_trained_), Planes(),
                                    pass_.Activations(layer_->input), Input().zero_point, {trained_planes_, num_trained_},
                                    NumPixels(), Input().channels);
    }
    if (d_input_ != nullptr && num_planes_ > 0) InputBackward();
    num_planes_ = num_trained_ = 0;
  }

 private:
  const Tensor& Input() const { return pass_.tables.tensors[layer_->input]; }
  const Tensor& Output() const { return pass_.tables.tensors[layer_->output]; }
  float* Planes() const { return pass_.Gradient(layer_->output); }
  std::int32_t NumPixels() const { return Input().height * Input().width; }

  // Every channel has a plane in this case, so the planes are of consecutive channels.
  void InputBackward() {
    const KernelRows kernel(pass_.tables, *layer_, state_);
    const std::int8_t* rows[kMaxPlanes];
    for (std::int32_t i = 0; i < num_planes_; ++i) rows[i] = kernel.Row(first_channel_ + i);
    PointwiseBackwardInputPlanes(d_input_, Planes(), rows, layer_->kernel_scales + first_channel_, NumPixels(),
                                 Input().channels, num_planes_);
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

// Through the last layer where d_output is the same at each position: the gradients of all interior channels at one of them.
// They take the place of d_output at the others; nullptr: they do not fit there.
float* UniformRow(const Layer& project, const KernelRows& kernel, float* d_output, const Tensor& output,
                  const Tensor& interior) {
  if (interior.channels > (output.height * output.width - 1) * output.channels) return nullptr;
  float* const row = d_output + output.channels;
  std::memset(row, 0, static_cast<std::size_t>(interior.channels) * sizeof(float));
  if (kernel.whole() != nullptr) {
    PointwiseBackwardInput(row, d_output, kernel.whole(), project.kernel_scales, 1, interior.channels, output.channels);
  } else {
    ConvBackwardInputRows(row, d_output, kernel, project.kernel_scales,
                          {1, 1, interior.channels, 1, 1, output.channels, 1, 1, 1, 1, 0, 0});
  }
  return row;
}

}  // namespace

void InteriorBackward(const Pass& pass, std::int32_t index, const KernelRows& project_kernel) {
  const Tables& tables = pass.tables;
  const Layer& project = tables.layers[index];
  const Layer& depthwise = tables.layers[index - 1];
  const Tensor& output = tables.tensors[project.output];
  const Tensor& interior = tables.tensors[project.input];
  const TrainedState state = pass.StateOf(index - 1);
  const std::int8_t* kernel = state.trained == nullptr ? depthwise.kernel : state.kernel;
  const DepthwiseShape shape(ShapeOf(depthwise, tables.tensors[depthwise.input], interior));
  const std::int32_t num_pixels = output.height * output.width;
  float* d_output = pass.Gradient(project.output);
  float* d_interior = pass.Gradient(project.input);
  const bool is_uniform = kMayLeaveOut && project.activation == Activation::kLinear && pass.IsUniform(project.output);
  const std::int32_t num_different = is_uniform ? 1 : num_pixels;
  const bool goes_on = pass.HasGradient(depthwise.input) && index - 2 >= pass.first;
  float* const fisher = pass.FisherOf(index - 1);
  Expansion expansion(pass, goes_on ? index - 2 : kNone);
  float* const row =
      is_uniform && expansion.WantsAll() ? UniformRow(project, project_kernel, d_output, output, interior) : nullptr;
  if (row == nullptr) ScaleChannels(d_output, project.kernel_scales, num_different, output.channels);
  Cursor trained(state);
  for (std::int32_t c = 0; c < interior.channels; ++c) {
    std::int32_t n = kNone;
    const bool is_trained = trained.At(c, &n) || fisher != nullptr;
    const bool is_wanted = goes_on && expansion.Wants(c);
    if (!is_trained && !is_wanted) continue;
    if (row != nullptr) {
      d_interior[0] = row[c];
    } else if (project_kernel.whole() != nullptr) {
      PointwiseBackwardPlane(d_interior, d_output, project_kernel.whole(), c, num_different, interior.channels,
                             output.channels);
    } else {
      PointwiseBackwardPlaneRows(d_interior, d_output, project_kernel, c, num_different, interior.channels);
    }
    for (std::int32_t p = num_different; p < num_pixels; ++p) d_interior[p] = d_interior[0];
    PlaneActivationBackward(pass, depthwise, d_interior, c, fisher);
    if (n != kNone) {
      DepthwiseBackwardPlaneKernel(trained.Kernel(n), trained.Bias(n), d_interior, pass.Activations(depthwise.input),
                                   tables.tensors[depthwise.input].zero_point, c, shape);
    }
    if (is_wanted) expansion.Add(c, d_interior, kernel, depthwise.kernel_scales[c], shape);
  }
  expansion.Finish();
}

}  // namespace tinytrain
