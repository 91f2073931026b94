// Backward kernels of operators that only pick values: max pooling and padding. Conventions as in tinytrain/kernels/kernels.h.
#ifndef TINYTRAIN_POOLING_H_
#define TINYTRAIN_POOLING_H_

#include <cstdint>

#include "tinytrain/kernels/kernels.h"

namespace tinytrain {

// Largest value of each window, what lies in the padding left out. The gradient goes to where the int8 `input` is largest; of
// equal values to the first, row by row.
void MaxPoolBackward(float* d_input, const float* d_output, const std::int8_t* input, const WindowShape& shape);

// The input stands in the middle of the output, pad_top rows and pad_left columns in.
void PadBackward(float* d_input, const float* d_output, const WindowShape& shape);

}  // namespace tinytrain

#endif  // TINYTRAIN_POOLING_H_
