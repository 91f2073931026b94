// One channel of a depthwise convolution. Small square planes, at the end of most networks, have code of their own for each
// window and side.
#ifndef TINYTRAIN_SQUARES_H_
#define TINYTRAIN_SQUARES_H_

#include <cstdint>

#include "tinytrain/kernels/kernels.h"

namespace tinytrain {

// One channel of a tensor or (step 1) a plane: its pixels lie `step` elements apart. Results do not depend on it.
template <typename Value>
struct Plane {
  Value* first;
  std::int32_t step;
};

// The functions for d_input and d_kernel of one channel.
struct ChannelCode {
  void (*input)(Plane<float> d_input, Plane<const float> d_output, Plane<const std::int8_t> kernel, float scale,
                const WindowShape& shape);
  void (*kernel)(float* d_kernel, Plane<const float> d_output, Plane<const std::int8_t> input, std::int32_t zero_point,
                 const WindowShape& shape);
};

// The code for a shape; nullptr: it has none of its own.
const ChannelCode* SquareCode(const WindowShape& shape);

}  // namespace tinytrain

#endif  // TINYTRAIN_SQUARES_H_
