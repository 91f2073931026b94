// Which head answers: the closed form, or cosine to prototypes.
#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/numerics/math.h"
#include "tinytrain_closed_form.h"

namespace tinytrain {
namespace {

// The class whose prototype has the largest cosine with z = scale * (q - zero_point), a sample of class `label` that is left
// out of its prototype, the mean of `count` samples: cos(z, count * p - z). The length of z is the same for all.
std::int32_t NearestWithout(const std::int8_t* q, const Tensor& tensor, const float* prototypes, std::int32_t num_classes,
                            std::int32_t label, std::int32_t count) {
  const std::int32_t dimension = NumElements(tensor);
  std::int32_t nearest = 0;
  float largest = 0.0f;
  for (std::int32_t k = 0; k < num_classes; ++k) {
    float dot = 0.0f, squares = 0.0f;
    for (std::int32_t d = 0; d < dimension; ++d) {
      const float z = tensor.scale * static_cast<float>(q[d] - tensor.zero_point);
      const float p = prototypes[k * dimension + d];
      const float other = k == label ? static_cast<float>(count) * p - z : p;
      dot += z * other;
      squares += other * other;
    }
    const float cosine = squares > 0.0f ? dot / SquareRoot(squares) : 0.0f;
    if (k > 0 && !(cosine > largest)) continue;
    nearest = k;
    largest = cosine;
  }
  return nearest;
}

std::int32_t Best(const float* scores, std::int32_t count) {
  std::int32_t best = 0;
  for (std::int32_t k = 1; k < count; ++k) best = scores[k] > scores[best] ? k : best;
  return best;
}

}  // namespace

// Of b samples that the closed form alone gets right and c that the prototypes alone do, (b - c) / sqrt(b + c) is by chance
// above 1.28 in one of ten cases (McNemar, Psychometrika 1947).
bool ClosedForm::Holds(const RidgeTask& task, const float* leave_one_out, const float* prototypes) const {
  constexpr float kSure = 1.28f;
  const Trainer& t = *trainer_;
  const Tensor& embedding = t.tables_->tensors[t.tables_->num_tensors - 1];
  const std::int32_t before = row_elements() - t.buffers_.dimension;
  std::int32_t won = 0, lost = 0;
  for (std::int32_t k = 0; k < num_classes(); ++k) {
    if (t.buffers_.counts[k] == 0) return true;
  }
  for (std::int32_t i = 0; i < rows_.count; ++i) {
    const std::int32_t label = task.Label(i), count = t.buffers_.counts[label];
    if (count < 2) continue;
    const bool solved = Best(leave_one_out + i * task.num_targets, task.num_targets) == label;
    const bool is_near = NearestWithout(rows_.At(i) + before, embedding, prototypes, num_classes(), label, count) == label;
    won += solved && !is_near ? 1 : 0;
    lost += is_near && !solved ? 1 : 0;
  }
  if (maps_->choice == HeadChoice::kUnlessWorse) return won >= lost;
  return won > lost && static_cast<float>(won - lost) > kSure * SquareRoot(static_cast<float>(won + lost));
}

}  // namespace tinytrain
