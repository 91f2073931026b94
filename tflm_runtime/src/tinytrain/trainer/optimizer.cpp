#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/trainer/optimizer.h"

#include "tinytrain/numerics/math.h"

namespace tinytrain {

std::size_t OptimizerFloats(Optimizer optimizer, std::size_t num_weights, std::size_t num_runs) {
  switch (optimizer) {
    case Optimizer::kSgd: return 0;
    case Optimizer::kMomentum: return num_weights;
    case Optimizer::kAdam: return 2 * num_weights;
    case Optimizer::kAdamPerChannel: return num_weights + num_runs;
  }
  return 0;
}

OptimizerStep::OptimizerStep(const TrainingSettings& settings, const float* gradients, std::size_t num_weights, float* state,
                             AdamCorrection* correction)
    : settings_(settings), gradients_(gradients), first_moment_(state), second_moment_(nullptr) {
  if (settings.optimizer != Optimizer::kAdam && settings.optimizer != Optimizer::kAdamPerChannel) return;
  second_moment_ = state + num_weights;
  correction->beta_1 = settings.momentum * correction->beta_1 + (1.0f - settings.momentum);
  correction->beta_2 = settings.beta_2 * correction->beta_2 + (1.0f - settings.beta_2);
  alpha_ = settings.learning_rate * SquareRoot(correction->beta_2) / correction->beta_1;
}

void OptimizerStep::BeginRun(std::size_t first, std::size_t count) {
  if (settings_.optimizer != Optimizer::kAdamPerChannel) return;
  float sum = 0.0f;
  for (std::size_t i = first; i < first + count; ++i) sum += gradients_[i] * gradients_[i];
  float& variance = second_moment_[next_run_++];
  variance += (sum / static_cast<float>(count) - variance) * (1.0f - settings_.beta_2);
  denominator_ = SquareRoot(variance) + settings_.epsilon;
}

float OptimizerStep::Change(std::size_t i) {
  const float gradient = gradients_[i];
  if (settings_.optimizer == Optimizer::kSgd) return -(settings_.learning_rate * gradient);
  float& first = first_moment_[i];
  if (settings_.optimizer == Optimizer::kMomentum) {
    first = settings_.momentum * first - settings_.learning_rate * gradient;
    return first;
  }
  first += (gradient - first) * (1.0f - settings_.momentum);
  if (settings_.optimizer == Optimizer::kAdamPerChannel) return -(alpha_ * first / denominator_);
  float& second = second_moment_[i];
  second += (gradient * gradient - second) * (1.0f - settings_.beta_2);
  return -(alpha_ * first / (SquareRoot(second) + settings_.epsilon));
}

}  // namespace tinytrain
