#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/trainer/optimizer.h"

#include "tinytrain/numerics/math.h"

namespace tinytrain {

std::size_t OptimizerFloats(Optimizer optimizer, std::size_t num_weights, std::size_t num_runs) {
  switch (optimizer) {
    case Optimizer::kSgd: return 0;
    case Optimizer::kMomentum:
    case Optimizer::kRmsprop: return num_weights;
    case Optimizer::kAdam: return 2 * num_weights;
    case Optimizer::kAdamPerChannel: return num_weights + num_runs;
  }
  return 0;
}

bool OptimizerIsValid(const TrainingSettings& s) {
  const auto is_decay = [](float beta) { return beta >= 0.0f && beta < 1.0f; };
  const bool epsilon_is_positive = s.epsilon > 0.0f && IsFinite(s.epsilon);
  switch (s.optimizer) {
    case Optimizer::kSgd: return true;
    case Optimizer::kMomentum: return is_decay(s.momentum);
    case Optimizer::kRmsprop: return is_decay(s.beta_2) && epsilon_is_positive;
    case Optimizer::kAdam:
    case Optimizer::kAdamPerChannel: return is_decay(s.momentum) && is_decay(s.beta_2) && epsilon_is_positive;
  }
  return false;
}

OptimizerStep::OptimizerStep(const TrainingSettings& settings, const float* gradients, std::size_t num_weights, float* state,
                             AdamCorrection* correction)
    : settings_(settings), gradients_(gradients), state_(state), second_moment_(nullptr) {
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
  denominator_ = Denominator(sum / static_cast<float>(count), &second_moment_[next_run_++]);
}

float OptimizerStep::Change(std::size_t i) {
  const float gradient = gradients_[i], rate = settings_.learning_rate;
  switch (settings_.optimizer) {
    case Optimizer::kSgd: return -(rate * gradient);
    case Optimizer::kMomentum: return state_[i] = settings_.momentum * state_[i] - rate * gradient;
    case Optimizer::kAdam: denominator_ = Denominator(gradient * gradient, &second_moment_[i]); break;
    case Optimizer::kAdamPerChannel: break;
    case Optimizer::kRmsprop:
      state_[i] += (gradient * gradient - state_[i]) * (1.0f - settings_.beta_2);
      return -(rate * gradient / SquareRoot(state_[i] + settings_.epsilon));
  }
  state_[i] += (gradient - state_[i]) * (1.0f - settings_.momentum);
  return -(alpha_ * state_[i] / denominator_);
}

float OptimizerStep::Denominator(float square, float* second_moment) const {
  *second_moment += (square - *second_moment) * (1.0f - settings_.beta_2);
  return SquareRoot(*second_moment) + settings_.epsilon;
}

}  // namespace tinytrain
