// Is a sample of a class that was learned? Its familiarity, and the threshold below which it is of none.
//
//   familiarity_k(x) = s_k - s_u + 3 c_k
// s are the scores of the closed-form head (ridge.h), s_u that of the samples of no class, 0 where there are none. c_k is the
// mean over parts of cos(x_p, m_kp), m_kp being the mean of x_ip / ||x_ip|| over the samples of class k, where x counts from
// the zero point. keras_tinytrain.fewshot.unknown has the same rule in float64.
//
// The threshold is a prediction bound of samples that are left out, scored by what is solved for the others: of three classes
// and more each class in turn; else the samples of no class, if there are two, one by one. These are not to reach it. Else the
// samples of the classes one by one; these are not to fall below it.
#ifndef TINYTRAIN_FAMILIARITY_H_
#define TINYTRAIN_FAMILIARITY_H_

#include <cstdint>

#include "tinytrain/trainer/ridge.h"

namespace tinytrain {

constexpr float kCosineWeight = 3.0f;
constexpr float kNoThreshold = -3.0e38f;  // there are too few samples for one: every sample is of a class

// What a familiarity is computed with, of one network.
struct KnownWeights {
  RidgeWeights ridge;  // of the classes, and the centre
  RidgeWeights known;  // m of each class, its parts of length 1 / sqrt(parts); then W of the samples of no class
  std::int32_t num_classes;
};
float Familiarity(const std::int8_t* row, const RowParts& parts, const KnownWeights& weights, std::int32_t k);

// m of class k, as int8 and their scale. `coefficients` [rows] is overwritten.
void QuantizeDirection(const RidgeTask& task, const RowParts& parts, float* coefficients, std::int32_t k, std::int8_t* values,
                       std::int32_t* scale);

// The threshold for all rows of a task, whose order it changes for a while. `space` has room for num_classes + 1 rows, and is
// overwritten.
float FindThreshold(const RidgeTask& task, const RowParts& parts, std::int32_t num_classes, const RidgeWork& work,
                    const RidgeSpace& space, const Maps& maps);

}  // namespace tinytrain

#endif  // TINYTRAIN_FAMILIARITY_H_
