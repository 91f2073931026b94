// Backward kernels of operators that copy values: max pooling and padding. tinytrain/kernels/kernels.h has the conventions.
#ifndef TINYTRAIN_POOLING_H_
#define TINYTRAIN_POOLING_H_

#include <cstdint>

#include "tinytrain/kernels/kernels.h"

namespace tinytrain {

// Largest value of each window, without the padding. The gradient goes to the largest int8 `input`, the first of equal ones,
// row by row.
void MaxPoolBackward(float* d_input, const float* d_output, const std::int8_t* input, const WindowShape& shape);

// The input lies inside the output, pad_top rows and pad_left columns from its corner.
void PadBackward(float* d_input, const float* d_output, const WindowShape& shape);

}  // namespace tinytrain

#endif  // TINYTRAIN_POOLING_H_
