#include "tinytrain_strict_float.h"

#include "tinytrain_optimizer.h"

#include "tinytrain_math.h"

namespace tinytrain {

std::int32_t OptimizerSlots(Optimizer optimizer) {
  switch (optimizer) {
    case Optimizer::kSgd: return 0;
    case Optimizer::kMomentum: return 1;
    case Optimizer::kAdam: return 2;
  }
  return 0;
}

void SgdUpdate(float* weights, const float* gradients, float learning_rate, std::size_t num_weights) {
  for (std::size_t i = 0; i < num_weights; ++i) weights[i] -= learning_rate * gradients[i];
}

void MomentumUpdate(float* weights, float* velocity, const float* gradients, float learning_rate, float momentum,
                    std::size_t num_weights) {
  for (std::size_t i = 0; i < num_weights; ++i) {
    velocity[i] = momentum * velocity[i] - learning_rate * gradients[i];
    weights[i] += velocity[i];
  }
}

void AdamUpdate(float* weights, float* mean, float* variance, const float* gradients, const TrainingSettings& settings,
                AdamCorrection* correction, std::size_t num_weights) {
  const float rest_1 = 1.0f - settings.momentum;
  const float rest_2 = 1.0f - settings.beta_2;
  correction->beta_1 = settings.momentum * correction->beta_1 + rest_1;
  correction->beta_2 = settings.beta_2 * correction->beta_2 + rest_2;
  const float alpha = settings.learning_rate * SquareRoot(correction->beta_2) / correction->beta_1;
  for (std::size_t i = 0; i < num_weights; ++i) {
    const float gradient = gradients[i];
    mean[i] += (gradient - mean[i]) * rest_1;
    variance[i] += (gradient * gradient - variance[i]) * rest_2;
    weights[i] -= alpha * mean[i] / (SquareRoot(variance[i]) + settings.epsilon);
  }
}

}  // namespace tinytrain
