#include "tinytrain_strict_float.h"

#include "tinytrain_weights.h"

#include <cstring>

#include "tinytrain_math.h"

namespace tinytrain {

std::int8_t QuantizeWeight(float value, float scale) {
  const float q = RoundToEven(value / scale);
  if (!(q > -127.0f)) return -127;
  return q < 127.0f ? static_cast<std::int8_t>(q) : std::int8_t{127};
}

std::int32_t QuantizeBias(float value, float scale) {
  constexpr float kLimit = 1073741824.0f;
  const float q = RoundToEven(value / scale);
  if (!(q > -kLimit)) return -(1 << 30);
  return q < kLimit ? static_cast<std::int32_t>(q) : 1 << 30;
}

std::int32_t KernelIndex(const TrainedState& state, std::int32_t n, std::int32_t j) {
  return state.Row(n) * state.layout.channel_step + j * state.layout.weight_step;
}

float KernelScale(const TrainedState& state, std::int32_t n) {
  return state.layer->kernel_scales[state.trained->channels[n]];
}

float BiasScale(const TrainedState& state, std::int32_t n) { return state.input_scale * KernelScale(state, n); }

void CopyFromFlash(const TrainedState& state) {
  const auto num_outputs = static_cast<std::size_t>(state.layout.output_channels);
  const bool split = state.trained->kernel != nullptr;
  const std::int8_t* kernel = split ? state.trained->kernel : state.layer->kernel;
  const std::int32_t* bias = split ? state.trained->bias : state.layer->bias;
  std::memcpy(state.kernel, kernel, num_outputs * static_cast<std::size_t>(state.layout.weights_per_channel));
  if (state.bias != nullptr) std::memcpy(state.bias, bias, num_outputs * sizeof(std::int32_t));
  float* master = state.masters;
  for (std::int32_t n = 0; n < state.trained->num_channels; ++n) {
    for (std::int32_t j = 0; j < state.layout.weights_per_channel; ++j) {
      *master++ = KernelScale(state, n) * static_cast<float>(state.kernel[KernelIndex(state, n, j)]);
    }
    if (state.bias == nullptr) continue;
    state.bias_masters[n] = BiasScale(state, n) * static_cast<float>(state.bias[state.Row(n)]);
  }
}

void QuantizeMasters(const TrainedState& state) {
  const float* master = state.masters;
  for (std::int32_t n = 0; n < state.trained->num_channels; ++n) {
    for (std::int32_t j = 0; j < state.layout.weights_per_channel; ++j) {
      state.kernel[KernelIndex(state, n, j)] = QuantizeWeight(*master++, KernelScale(state, n));
    }
    if (state.bias == nullptr) continue;
    state.bias[state.Row(n)] = QuantizeBias(state.bias_masters[n], BiasScale(state, n));
  }
}

}  // namespace tinytrain
