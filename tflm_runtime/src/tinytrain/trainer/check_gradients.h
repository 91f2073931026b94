// Checks the backward pass: every tensor has one producer, and no gradient, at the place that the exporter gave it, overwrites
// another one that is still to be read.
#ifndef TINYTRAIN_CHECK_GRADIENTS_H_
#define TINYTRAIN_CHECK_GRADIENTS_H_

#include "tinytrain/memory/memory.h"
#include "tinytrain_tables.h"

namespace tinytrain {

inline bool HasGradient(const Tables& tables, std::int32_t tensor) { return tables.tensors[tensor].gradient_offset != kNone; }

// Bytes from the start of the gradient region to the end of a tensor's gradient.
inline std::int64_t GradientEnd(const Tensor& tensor) {
  return tensor.gradient_offset + static_cast<std::int64_t>(NumGradients(tensor)) * 4;
}

// Whether layers stand in execution order. Each layer and each tensor must have been checked.
bool OrderIsValid(const Tables& tables);

// Whether the backward pass may write gradients at their places. The order must have been checked.
bool GradientsAreValid(const Tables& tables);

}  // namespace tinytrain

#endif  // TINYTRAIN_CHECK_GRADIENTS_H_
