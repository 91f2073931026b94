#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/backward/fisher.h"

namespace tinytrain {
namespace {

// (scale * sum over pixels of (q - zero_point) * d)^2; `d_step` from one pixel's gradient to the next's.
float SquaredProduct(const float* d, std::int32_t d_step, const std::int8_t* q, const Tensor& tensor) {
  float sum = 0.0f;
  for (std::int32_t p = 0; p < tensor.height * tensor.width; ++p, d += d_step, q += tensor.channels) {
    sum += *d * static_cast<float>(*q - tensor.zero_point);
  }
  const float product = tensor.scale * sum;
  return product * product;
}

}  // namespace

void AddFisher(float* sums, const float* d_output, const std::int8_t* output, const Tensor& tensor) {
  for (std::int32_t c = 0; c < tensor.channels; ++c) {
    sums[c] += SquaredProduct(d_output + c, tensor.channels, output + c, tensor);
  }
}

void AddFisherPlane(float* sum, const float* plane, const std::int8_t* output, const Tensor& tensor, std::int32_t channel) {
  *sum += SquaredProduct(plane, 1, output + channel, tensor);
}

}  // namespace tinytrain
