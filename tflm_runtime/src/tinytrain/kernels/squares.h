// One channel of a depthwise convolution; for small square planes, which most networks end in, with code of its own for each
// window and side.
#ifndef TINYTRAIN_SQUARES_H_
#define TINYTRAIN_SQUARES_H_

#include <cstdint>

#include "tinytrain/kernels/kernels.h"

namespace tinytrain {

// One channel of a tensor, or (step 1) a plane by itself: its pixels lie `step` elements apart. Results are the same.
template <typename Value>
struct Plane {
  Value* first;
  std::int32_t step;
};

// What computes d_input and d_kernel of one channel.
struct ChannelCode {
  void (*input)(Plane<float> d_input, Plane<const float> d_output, Plane<const std::int8_t> kernel, float scale,
                const WindowShape& shape);
  void (*kernel)(float* d_kernel, Plane<const float> d_output, Plane<const std::int8_t> input, std::int32_t zero_point,
                 const WindowShape& shape);
};

// The code that a shape has for its own; nullptr: none.
const ChannelCode* SquareCode(const WindowShape& shape);

}  // namespace tinytrain

#endif  // TINYTRAIN_SQUARES_H_
