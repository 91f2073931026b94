// What tells samples of no class from those of the closed-form head's classes.
#include "tinytrain/numerics/strict_float.h"

#include <cstring>

#include "tinytrain_closed_form.h"

namespace tinytrain {

// What a familiarity is computed with. A solution on its way to flash has been kept before; its centre still lies in its space.
Status ClosedForm::KeepKnown(const RidgeTask& task, const RidgeWork& work, const std::int8_t* centre) {
  const RidgeSpace known = Space(Solution::kKnown);
  const std::int32_t total = row_elements(), last = num_classes();
  QuantizeTarget(task, parts(), centre, work, last, known.values, &known.scales[last]);  // zeros if there is none of no class
  std::memmove(known.values + last * total, known.values, static_cast<std::size_t>(total));
  for (std::int32_t k = 0; k < last; ++k) {
    QuantizeDirection(task, parts(), work.coefficients, k, known.values + k * total, &known.scales[k]);
  }
  has_known_ = true;
  CountRecords();
  return in_flash_ ? KeepValues(Solution::kKnown, known.values) : Status::kOk;
}

// The row that was scored last is that of the original weights.
void ClosedForm::Judge() {
  const Trainer& t = *trainer_;
  const void* const row = t.scratch_.data + t.memory_parts().features;
  std::int32_t answer = 0;
  for (std::int32_t k = 1; k < num_classes(); ++k) answer = t.buffers_.logits[k] > t.buffers_.logits[answer] ? k : answer;
  const KnownWeights known = {weights(Solution::kOriginal), weights(Solution::kKnown), num_classes()};
  familiarity_ = Familiarity(static_cast<const std::int8_t*>(row), parts(), known, answer);
  is_unknown = familiarity_ < threshold_;
}

}  // namespace tinytrain
