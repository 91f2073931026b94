#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/trainer/head.h"

#include "tinytrain/numerics/math.h"

namespace tinytrain {
namespace {

float Dot(const float* a, const float* b, std::int32_t count) {
  float sum = 0.0f;
  for (std::int32_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

// 1 / max(||x||, epsilon)
float InverseNorm(const float* x, std::int32_t count) {
  const float norm = SquareRoot(Dot(x, x, count));
  return 1.0f / (norm > kNormEpsilon ? norm : kNormEpsilon);
}

}  // namespace

void Dequantize(float* real, const std::int8_t* q, float scale, std::int32_t zero_point, std::int32_t num_elements) {
  for (std::int32_t i = 0; i < num_elements; ++i) real[i] = scale * static_cast<float>(q[i] - zero_point);
}

void CosineLogits(float* logits, const float* embedding, const float* prototypes, float logit_scale, std::int32_t num_classes,
                  std::int32_t dimension) {
  const float factor = logit_scale * InverseNorm(embedding, dimension);
  for (std::int32_t k = 0; k < num_classes; ++k, prototypes += dimension) {
    logits[k] = factor * (Dot(embedding, prototypes, dimension) * InverseNorm(prototypes, dimension));
  }
}

void AddEmbedding(float* sums, const std::int8_t* q, std::int32_t zero_point, std::int32_t dimension) {
  for (std::int32_t i = 0; i < dimension; ++i) sums[i] += static_cast<float>(q[i] - zero_point);
}

void MeanOfSums(float* sums, float scale, std::int32_t count, std::int32_t dimension) {
  const float mean = scale / static_cast<float>(count);
  for (std::int32_t i = 0; i < dimension; ++i) sums[i] *= mean;
}

void LeaveOut(float* prototype, float* saved, const std::int8_t* q, float scale, std::int32_t zero_point, std::int32_t count,
              std::int32_t dimension) {
  const float all = scale / static_cast<float>(count), others = scale / static_cast<float>(count - 1);
  for (std::int32_t i = 0; i < dimension; ++i) {
    saved[i] = prototype[i];
    prototype[i] = (RoundToEven(prototype[i] / all) - static_cast<float>(q[i] - zero_point)) * others;
  }
}

void AverageLogits(float* logits, const float* original, float average, std::int32_t num_classes) {
  for (std::int32_t k = 0; k < num_classes; ++k) logits[k] = (1.0f - average) * logits[k] + average * original[k];
}

// With u = z / ||z|| and v_k = p_k / ||p_k||:  logits[k] = logit_scale * u . v_k
// d_u = logit_scale * sum over k of d_logits[k] * (v_k - u);  d_z = (d_u - u (u . d_u)) / ||z||
// The term of u in d_u has no part in d_z. Without it, d_u is a sum that almost cancels when all v_k point about the same way.
void CosineBackward(float* d_embedding, const float* d_logits, const float* embedding, const float* prototypes,
                    float logit_scale, std::int32_t num_classes, std::int32_t dimension) {
  const float inverse_norm = InverseNorm(embedding, dimension);
  const bool has_direction = inverse_norm < 1.0f / kNormEpsilon;
  const float factor = has_direction ? logit_scale * inverse_norm : 0.0f;
  for (std::int32_t i = 0; i < dimension; ++i) d_embedding[i] = 0.0f;
  for (std::int32_t k = 0; k < num_classes; ++k, prototypes += dimension) {
    const float weight = factor * d_logits[k], inverse = InverseNorm(prototypes, dimension);
    for (std::int32_t i = 0; i < dimension; ++i) {
      d_embedding[i] += weight * (prototypes[i] * inverse - embedding[i] * inverse_norm);
    }
  }
  const float along = Dot(embedding, d_embedding, dimension) * inverse_norm * inverse_norm;
  for (std::int32_t i = 0; i < dimension; ++i) d_embedding[i] -= along * embedding[i];
}

float SoftmaxCrossEntropy(float* logits, std::int32_t label, std::int32_t num_classes) {
  float largest = logits[0];
  for (std::int32_t k = 1; k < num_classes; ++k) largest = logits[k] > largest ? logits[k] : largest;
  const float shifted_label = logits[label] - largest;
  float others = 0.0f;
  for (std::int32_t k = 0; k < num_classes; ++k) {
    logits[k] = Exp(logits[k] - largest);
    if (k != label) others += logits[k];
  }
  const float sum = logits[label] + others;
  for (std::int32_t k = 0; k < num_classes; ++k) logits[k] /= sum;
  logits[label] = -others / sum;  // softmax - 1 without its cancellation: a confident sample's gradient keeps its digits
  return Log(sum) - shifted_label;
}

}  // namespace tinytrain
