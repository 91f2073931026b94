// The optimizers, in Keras' formulas, over a flat run of weights.
#ifndef TINYTRAIN_OPTIMIZER_H_
#define TINYTRAIN_OPTIMIZER_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_tables.h"

namespace tinytrain {

// State floats that a weight needs: 0, 1 or 2.
std::int32_t OptimizerSlots(Optimizer optimizer);

// Adam's bias corrections, 1 - beta^t, advanced without cancellation: 1 - beta^(t+1) = beta * (1 - beta^t) + (1 - beta).
struct AdamCorrection {
  float beta_1 = 0.0f;
  float beta_2 = 0.0f;
};

// w -= learning_rate * g
void SgdUpdate(float* weights, const float* gradients, float learning_rate, std::size_t num_weights);

// v = momentum * v - learning_rate * g;  w += v
void MomentumUpdate(float* weights, float* velocity, const float* gradients, float learning_rate, float momentum,
                    std::size_t num_weights);

// m += (g - m)(1 - beta_1);  v += (g^2 - v)(1 - beta_2);  alpha = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)
// w -= alpha * m / (sqrt(v) + epsilon)
void AdamUpdate(float* weights, float* mean, float* variance, const float* gradients, const TrainingSettings& settings,
                AdamCorrection* correction, std::size_t num_weights);

}  // namespace tinytrain

#endif  // TINYTRAIN_OPTIMIZER_H_
