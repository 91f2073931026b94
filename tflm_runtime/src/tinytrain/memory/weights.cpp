#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/memory/weights.h"

#include <cstring>

#include "tinytrain/numerics/math.h"
#include "tinytrain/numerics/random.h"

namespace tinytrain {
namespace {

// An integer in [-limit, limit]; limit is 127 or a power of two. NaN becomes -limit.
std::int32_t Clip(float q, std::int32_t limit) {
  const auto highest = static_cast<float>(limit);
  if (!(q > -highest)) return -limit;
  return q < highest ? static_cast<std::int32_t>(q) : limit;
}

}  // namespace

std::int8_t QuantizeWeight(float value, float scale) {
  return static_cast<std::int8_t>(Clip(RoundToEven(value / scale), kWeightLimit));
}

std::int32_t QuantizeBias(float value, float scale) { return Clip(RoundToEven(value / scale), kBiasLimit); }

std::int32_t KernelIndex(const TrainedState& state, std::int32_t n, std::int32_t j) {
  return state.Row(n) * state.layout.channel_step + j * state.layout.weight_step;
}

float KernelScale(const TrainedState& state, std::int32_t n) { return state.layer->kernel_scales[state.trained->channels[n]]; }

float BiasScale(const TrainedState& state, std::int32_t n) { return state.input_scale * KernelScale(state, n); }

const std::int8_t* OriginalKernel(const TrainedState& state) {
  return state.trained->kernel != nullptr ? state.trained->kernel : state.layer->kernel;
}

const std::int32_t* OriginalBias(const TrainedState& state) {
  return state.trained->kernel != nullptr ? state.trained->bias : state.layer->bias;
}

void CopyFromFlash(const TrainedState& state) {
  const auto num_outputs = static_cast<std::size_t>(state.layout.output_channels);
  std::memcpy(state.kernel, OriginalKernel(state), num_outputs * static_cast<std::size_t>(state.layout.weights_per_channel));
  if (state.bias != nullptr) std::memcpy(state.bias, OriginalBias(state), num_outputs * sizeof(std::int32_t));
  float* master = state.masters;
  for (std::int32_t n = 0; master != nullptr && n < state.trained->num_channels; ++n) {
    for (std::int32_t j = 0; j < state.layout.weights_per_channel; ++j) {
      *master++ = KernelScale(state, n) * static_cast<float>(state.kernel[KernelIndex(state, n, j)]);
    }
    if (state.bias == nullptr) continue;
    state.bias_masters[n] = BiasScale(state, n) * static_cast<float>(state.bias[state.Row(n)]);
  }
}

std::int32_t AddStochastically(std::int32_t q, float change, float scale, float u, std::int32_t limit) {
  const std::int64_t moved = std::int64_t{q} + Clip(RoundStochastically(change / scale, u), kBiasLimit);
  return static_cast<std::int32_t>(moved < -limit ? -limit : moved > limit ? limit : moved);
}

namespace {

// Updates one trained layer's weights, which have indices among all trained ones.
class Mover {
 public:
  Mover(const TrainedState& state, OptimizerStep* step, const RandomKey& random_key)
      : state_(state), step_(step), random_key_(random_key) {}

  void MoveKernel(std::int32_t n) const {
    const std::int32_t count = state_.layout.weights_per_channel;
    const std::size_t first = state_.first + static_cast<std::size_t>(n) * static_cast<std::size_t>(count);
    const float scale = KernelScale(state_, n);
    float* masters = state_.masters == nullptr ? nullptr : state_.masters + n * count;
    step_->BeginRun(first, static_cast<std::size_t>(count));
    for (std::int32_t j = 0; j < count; ++j) {
      std::int8_t* weight = &state_.kernel[KernelIndex(state_, n, j)];
      const std::size_t i = first + static_cast<std::size_t>(j);
      const float change = step_->Change(i);
      if (masters != nullptr) {
        masters[j] += change;
        *weight = QuantizeWeight(masters[j], scale);
      } else {
        *weight = static_cast<std::int8_t>(AddStochastically(*weight, change, scale, Uniform(i), kWeightLimit));
      }
    }
  }

  void MoveBias(std::int32_t n) const {
    const std::int32_t num_kernel_weights = state_.trained->num_channels * state_.layout.weights_per_channel;
    const std::size_t i = state_.first + static_cast<std::size_t>(num_kernel_weights + n);
    std::int32_t* bias = &state_.bias[state_.Row(n)];
    step_->BeginRun(i, 1);
    const float change = step_->Change(i);
    if (state_.masters != nullptr) {
      state_.bias_masters[n] += change;
      *bias = QuantizeBias(state_.bias_masters[n], BiasScale(state_, n));
    } else {
      *bias = AddStochastically(*bias, change, BiasScale(state_, n), Uniform(i), kBiasLimit);
    }
  }

 private:
  float Uniform(std::size_t i) const {
    return tinytrain::Uniform(random_key_.seed, random_key_.step, static_cast<std::uint32_t>(i));
  }

  const TrainedState& state_;
  OptimizerStep* step_;
  const RandomKey& random_key_;
};

}  // namespace

void MoveWeights(const TrainedState& state, OptimizerStep* step, const RandomKey& random_key) {
  const Mover mover(state, step, random_key);
  for (std::int32_t n = 0; n < state.trained->num_channels; ++n) {
    mover.MoveKernel(n);
    if (state.bias != nullptr) mover.MoveBias(n);
  }
}

}  // namespace tinytrain
