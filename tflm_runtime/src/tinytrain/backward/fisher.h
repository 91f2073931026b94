// Fisher information of output channels from int8 activations: one sample at a time, one float a channel.
//
//   Delta_o = 1/(2N) * sum over samples n of ( sum over positions d of a_nd * g_nd )^2
//
// a: the layer's output, real value; g: the gradient of sample n's loss with respect to it (Kwon et al., ICML 2024). With a
// fused activation, a is the activation's output and g the gradient of its input. Where the activation lets its input through,
// both are equal; elsewhere g is 0. So this is the score of the convolution's own output.
#ifndef TINYTRAIN_FISHER_H_
#define TINYTRAIN_FISHER_H_

#include <cstdint>

#include "tinytrain_tables.h"

namespace tinytrain {

// sums[c] += ( sum over p of a[p][c] * d_output[p][c] )^2, a = scale * (q - zero_point)
void AddFisher(float* sums, const float* d_output, const std::int8_t* output, const Tensor& tensor);

// The same for one channel, whose gradient is a plane [height][width].
void AddFisherPlane(float* sum, const float* plane, const std::int8_t* output, const Tensor& tensor, std::int32_t channel);

// The sums of the candidates: one layer's channels after the other's.
struct FisherSums {
  const TrainedLayer* candidates;
  std::int32_t num_candidates;
  float* sums;

  // The sums of tables.layers[layer]; nullptr: it is no candidate.
  float* Of(std::int32_t layer) const {
    float* own = sums;
    for (std::int32_t i = 0; i < num_candidates; ++i) {
      if (candidates[i].layer == layer) return own;
      own += candidates[i].num_channels;
    }
    return nullptr;
  }
};

}  // namespace tinytrain

#endif  // TINYTRAIN_FISHER_H_
