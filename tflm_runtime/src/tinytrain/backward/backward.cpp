#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/backward/backward.h"

#include <cstring>

#include "tinytrain/backward/operators.h"
#include "tinytrain/backward/pass.h"
#include "tinytrain/kernels/kernels.h"

namespace tinytrain {
namespace {

// Goes through the layers of a pass from the last to the first.
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
        InteriorBackward(pass_, l, kernel);
      } else {
        InputsBackward(layer, kernel);
      }
    }
  }

 private:
  // From the activation's output to its input, and to the gradients of the layer's own weights.
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
    if (pass_.HasGradient(layer.input)) InputBackward(layer, false, layer.accumulate_input, kernel);
    if (layer.input2 != kNone && pass_.HasGradient(layer.input2)) {
      InputBackward(layer, true, layer.accumulate_input2, kernel);
    }
  }

  void KernelBackward(const TrainedState& state, const float* d_output) const {
    const Layer& layer = *state.layer;
    const Tensor& input = tables_.tensors[layer.input];
    RowOf(layer.op).kernel_backward({state,
                                     input,
                                     ShapeOf(layer, input, tables_.tensors[layer.output]),
                                     {state.trained->channels, state.trained->num_channels},
                                     pass_.Activations(layer.input),
                                     d_output});
  }

  void InputBackward(const Layer& layer, bool is_second, bool accumulate, const KernelRows& kernel) const {
    const OperatorRow& row = RowOf(layer.op);
    const std::int32_t tensor = is_second ? layer.input2 : layer.input, other = is_second ? layer.input : layer.input2;
    const Tensor& input = tables_.tensors[tensor];
    const Tensor& output = tables_.tensors[layer.output];
    float* d_input = pass_.Gradient(tensor);
    if (!accumulate && !row.Has(kInPlace)) {
      std::memset(d_input, 0, static_cast<std::size_t>(NumElements(input)) * sizeof(float));
    }
    row.input_backward({layer, input, output, kernel, ShapeOf(layer, input, output),
                        row.Has(kReadsInput) ? pass_.Activations(tensor) : nullptr,
                        row.Has(kReadsOutput) ? pass_.Activations(layer.output) : nullptr, d_input,
                        pass_.Gradient(layer.output), accumulate, other == kNone ? nullptr : &tables_.tensors[other],
                        row.Has(kReadsOther) ? pass_.Activations(other) : nullptr, is_second});
  }

  const Pass& pass_;
  const Tables& tables_;
};

}  // namespace

std::int32_t UpperClamp(Activation activation, const Tensor& output) {
  if (activation != Activation::kRelu6) return 128;
  const float six = 6.0f / output.scale + 0.5f;
  if (six >= 256.0f) return 127;
  const std::int32_t upper = output.zero_point + static_cast<std::int32_t>(six);
  return upper < 127 ? upper : 127;
}

const std::int8_t* Pass::Activations(std::int32_t tensor) const {
  const std::int32_t kept = tables.tensors[tensor].kept;
  return kept == kStoredSample ? features + StoredOffset(tables, tensor) : outputs[kept];
}

bool Pass::IsUniform(std::int32_t tensor, std::int32_t num_sums) const {
  const Tensor& t = tables.tensors[tensor];
  bool is_read = false;
  for (std::int32_t l = 0; l < tables.num_layers; ++l) {
    const Layer& reader = tables.layers[l];
    if (reader.input != tensor && reader.input2 != tensor) continue;
    is_read = true;
    const bool is_mean = reader.op == Operator::kAveragePool2D && reader.kernel_height == t.height &&
                         reader.kernel_width == t.width && reader.pad_top == 0 && reader.pad_left == 0;
    const bool is_sum = num_sums > 0 && reader.op == Operator::kAdd && reader.activation == Activation::kLinear &&
                        IsUniform(reader.output, num_sums - 1);
    if (!is_mean && !is_sum) return false;
  }
  return is_read;
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
