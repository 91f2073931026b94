// The optimizers, in Keras' formulas: the change of each weight in a step.
//
// To add one: an enumerator of Optimizer (tinytrain_tables.h), and a case in each switch of optimizer.cpp; the compiler reports
// a missing case (-Wswitch).
#ifndef TINYTRAIN_OPTIMIZER_H_
#define TINYTRAIN_OPTIMIZER_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_tables.h"

namespace tinytrain {

// State floats of num_weights weights in num_runs runs. A run is one channel's kernel, or its bias.
std::size_t OptimizerFloats(Optimizer optimizer, std::size_t num_weights, std::size_t num_runs);

// Whether there is such an optimizer, and the settings that it reads are in range.
bool OptimizerIsValid(const TrainingSettings& settings);

// Adam's bias corrections, 1 - beta^t, advanced without cancellation: 1 - beta^(t+1) = beta * (1 - beta^t) + (1 - beta).
struct AdamCorrection {
  float beta_1 = 0.0f;
  float beta_2 = 0.0f;
};

// One step. Take the runs in the same order each time, and ask for each weight of a run once.
//
// kSgd:             change = -learning_rate * g
// kMomentum:        v = momentum * v - learning_rate * g;  change = v
// kAdam:            m += (g - m)(1 - beta_1);  v += (g^2 - v)(1 - beta_2);  change = -alpha * m / (sqrt(v) + epsilon)
//                   with alpha = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)
// kRmsprop:         v += (g^2 - v)(1 - beta_2);  change = -learning_rate * g / sqrt(v + epsilon)
// kAdamPerChannel:  the same with one v per run, of the mean of its g^2
class OptimizerStep {
 public:
  // `gradients`: of all weights. `state`: OptimizerFloats, zeros before the first step. Advances `correction`.
  OptimizerStep(const TrainingSettings& settings, const float* gradients, std::size_t num_weights, float* state,
                AdamCorrection* correction);

  // Announces the weights [first, first + count).
  void BeginRun(std::size_t first, std::size_t count);
  // The number to add to weight i.
  float Change(std::size_t i);

 private:
  // Adam's, after the second moment has moved towards `square`.
  float Denominator(float square, float* second_moment) const;

  const TrainingSettings& settings_;
  const float* gradients_;
  float* state_;          // [num_weights] velocity or first moment; kRmsprop: v
  float* second_moment_;  // Adam: of each weight, or of each run
  std::size_t next_run_ = 0;
  float alpha_ = 0.0f;
  float denominator_ = 0.0f;  // Adam's, of this weight or run
};

}  // namespace tinytrain

#endif  // TINYTRAIN_OPTIMIZER_H_
