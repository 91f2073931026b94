// The heads: cosine similarity to class prototypes, and softmax cross-entropy.
#ifndef TINYTRAIN_HEAD_H_
#define TINYTRAIN_HEAD_H_

#include <cstddef>
#include <cstdint>

namespace tinytrain {

constexpr float kNormEpsilon = 1e-12f;  // x / max(||x||, kNormEpsilon), as the reference implementation

// real[i] = scale * (q[i] - zero_point)
void Dequantize(float* real, const std::int8_t* q, float scale, std::int32_t zero_point, std::int32_t num_elements);

// logits[k] = logit_scale * cos(embedding, prototypes[k]); prototypes [num_classes][dimension], of any norm.
void CosineLogits(float* logits, const float* embedding, const float* prototypes, float logit_scale, std::int32_t num_classes,
                  std::int32_t dimension);

// sums[i] += q[i] - zero_point, exact; and the mean of `count` embeddings from their sums: sums[i] * (scale / count).
void AddEmbedding(float* sums, const std::int8_t* q, std::int32_t zero_point, std::int32_t dimension);
void MeanOfSums(float* sums, float scale, std::int32_t count, std::int32_t dimension);

// A class's prototype, the mean of `count` > 1 embeddings, becomes the mean without one: p <- (count * p - z) / (count - 1),
// z[i] = scale * (q[i] - zero_point). It recovers the integer sums from the mean, so that only the result is rounded. `saved`
// keeps the old prototype.
void LeaveOut(float* prototype, float* saved, const std::int8_t* q, float scale, std::int32_t zero_point, std::int32_t count,
              std::int32_t dimension);

// logits[k] = (1 - average) * logits[k] + average * original[k]
void AverageLogits(float* logits, const float* original, float average, std::int32_t num_classes);

// Overwrites d_embedding. No gradient flows through the prototypes. An embedding of zeros has no direction: its gradient is 0.
void CosineBackward(float* d_embedding, const float* d_logits, const float* embedding, const float* prototypes,
                    float logit_scale, std::int32_t num_classes, std::int32_t dimension);

// Returns the loss -log softmax(logits)[label], and overwrites `logits` with its gradient, softmax(logits) - onehot(label).
float SoftmaxCrossEntropy(float* logits, std::int32_t label, std::int32_t num_classes);

}  // namespace tinytrain

#endif  // TINYTRAIN_HEAD_H_
