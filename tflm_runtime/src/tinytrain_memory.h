// How the arena is cut up; what RequiredBytes promises and what Init does are the same code.
#ifndef TINYTRAIN_MEMORY_H_
#define TINYTRAIN_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_tables.h"

namespace tinytrain {

constexpr std::size_t kArenaAlignment = 16;

// Bytes of each part of the arena. Every buffer is rounded up to 16, written [n] below; a part is the sum of its buffers.
// With N = max_samples, V = num_views, F = elements of the first tensor, K = num_classes, D = elements of the last tensor and
// P = sum over trained layers of num_channels * (weights per channel + 1 where there is a bias) and R = the same of
// num_channels * (1 + 1 where there is a bias):
struct MemoryParts {
  std::size_t samples;               // [N * (1 + V) * F] trainable inputs, [N] labels
  std::size_t image;                 // [image_height * image_width * image_channels] if V > 0, else 0
  std::size_t weights;               // per trained layer, whole: [int8 kernel], [4 * output channels] if there is a bias
  std::size_t masters;               // [4 * P], float32, selected channels only; 0 for WeightStorage::kInt8
  std::size_t weight_gradients;      // [4 * P]
  std::size_t optimizer;             // [4 * P * slots], slots = 0, 1, 2 for SGD, momentum, Adam; kAdamPerChannel: [4 * (P + R)]
  std::size_t activation_gradients;  // [max(gradient_bytes, F)]; Predict keeps the frozen part's output there
  std::size_t prototypes;            // [4 * K] logits; Head::kPrototypes also has [4 * K * D] prototypes, [4 * D] one embedding
                                     // and [4 * K] samples of each class; leave_one_out: [4 * D] a prototype set aside and,
                                     // where V > 0 or Updates::kImmediate, [N * D] int8 embeddings of the samples;
                                     // average > 0: [4 * K * D] original prototypes and [4 * K] their logits
  std::size_t total;
};

// Where each buffer lies.
struct Buffers {
  std::int8_t* samples;           // [max_samples][1 + num_views][features]
  std::uint8_t* labels;           // [max_samples]
  std::int8_t* image;             // one view
  std::uint8_t* weights;          // see TrainedAt
  float* masters;                 // [num_weights]; nullptr: none are kept
  float* weight_gradients;        // [num_weights]
  float* optimizer;               // OptimizerFloats(num_weights, num_runs)
  std::uint8_t* activations;      // gradient region
  float* prototypes;              // [num_classes][dimension]
  float* embedding;               // [dimension]
  float* logits;                  // [num_classes]
  std::int32_t* counts;           // [num_classes] stored samples of each class
  float* set_aside;               // [dimension] a prototype, while one of its samples is left out; nullptr: none ever is
  std::int8_t* embeddings;        // [max_samples][dimension] of the samples themselves; nullptr: not kept
  float* original_prototypes;     // [num_classes][dimension] with the weights in flash; nullptr: not averaged with
  float* original_logits;         // [num_classes]
  std::size_t num_weights;        // P
  std::size_t num_runs;           // R
  std::int32_t feature_elements;  // F
  std::int32_t dimension;         // D
};

// Cuts an arena of any size; nullptr only measures. `total` of the result is what it takes; the buffers are good if the arena
// has as much. The tables must have been checked.
MemoryParts CutArena(const Tables& tables, const TrainingSettings& settings, std::uint8_t* arena, Buffers* buffers);

std::int32_t NumElements(const Tensor& tensor);

// Floats of a tensor's gradient: one of each element, or of one channel's where the gradient goes by channel.
std::int32_t NumGradients(const Tensor& tensor);

// Output channels and weights of a layer with a kernel: weight j of channel c is kernel[c * channel_step + j * weight_step].
struct KernelLayout {
  std::int32_t output_channels;
  std::int32_t weights_per_channel;
  std::int32_t channel_step;
  std::int32_t weight_step;
};
KernelLayout LayoutOf(const Tables& tables, const Layer& layer);

// Whether a layer is a 1 x 1 convolution that keeps height and width.
bool IsPointwise(const Tables& tables, const Layer& layer);

// One trained layer: its rows of every buffer. Pointers to biases are nullptr where the layer has none.
struct TrainedState {
  const TrainedLayer* trained;
  const Layer* layer;
  KernelLayout layout;
  std::int8_t* kernel;  // whole kernel, in RAM
  std::int32_t* bias;   // whole bias, in RAM
  std::size_t first;    // place of the first of these weights among all trained ones
  float* masters;       // [num_channels][weights per channel]; nullptr, as the next: none are kept
  float* bias_masters;  // [num_channels]
  float* d_kernel;
  float* d_bias;
  float input_scale;
};
TrainedState TrainedAt(const Tables& tables, const Buffers& buffers, std::int32_t index);

// Floats of one trained layer: num_channels * (weights per channel + 1 where there is a bias).
std::size_t NumTrainedWeights(const Tables& tables, const TrainedLayer& trained);

}  // namespace tinytrain

#endif  // TINYTRAIN_MEMORY_H_
