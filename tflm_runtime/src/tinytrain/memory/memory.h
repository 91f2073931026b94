// The division of the arena. RequiredBytes and Init use the same code.
#ifndef TINYTRAIN_MEMORY_H_
#define TINYTRAIN_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_tables.h"

namespace tinytrain {

constexpr std::size_t kArenaAlignment = 16;
constexpr std::uint8_t kForgotten = 255;  // in the place of a label: no sample is there. There are at most 255 classes

// Bytes of a chosen plan in the arena, the same on 32 and 64 bits: of the tables, and of one trained layer.
constexpr std::size_t kPlanTablesBytes = 256;
constexpr std::size_t kPlanLayerBytes = 64;

// Bytes of each part. A part is the sum of its buffers; [n] below is a buffer of n bytes, rounded up to 16.
// With N = max_samples, V = num_views, F = NumStored, K = num_classes, D = elements of the last tensor and
// P = sum over trained layers of num_channels * (weights per channel + 1 where there is a bias) and R = the same of
// num_channels * (1 + 1 where there is a bias):
struct MemoryParts {
  // State: lasts from one call to the next.
  std::size_t samples;     // [N * (1 + V) * F] unless they are in flash; [N] labels
  std::size_t plan;        // if the device chooses: [kPlanTablesBytes], [kPlanLayerBytes * candidates] and [2 * trained
                           // channels] or, before the choice, [4 * candidate channels] for their scores; else 0
  std::size_t weights;     // per trained layer: [int8 kernel], [4 * channels] if there is a bias; of all output channels or, if
                           // the layer is split, of the trained ones
  std::size_t masters;     // [4 * P], float32, selected channels only; 0 for WeightStorage::kInt8
  std::size_t optimizer;   // [4 * OptimizerFloats(optimizer, P, R)]
  std::size_t prototypes;  // Head::kPrototypes: [4 * K * D]; average > 0: and as many original ones
  std::size_t state;       // the sum of these
  // Scratch: the frozen part may overwrite it. While the frozen part runs:
  std::size_t features;  // its output on the way to the stored sample: [F]; in flash [F rounded up to 256]
  std::size_t image;     // one view, its input: [image_height * image_width * image_channels] if V > 0, else 0
  // While the trainable part runs:
  std::size_t weight_gradients;      // [4 * P]
  std::size_t activation_gradients;  // [gradient_bytes]
  std::size_t head;                  // [4 * K] logits; Head::kPrototypes also has [4 * D] embedding, [4 * K] samples per class;
                                     // leave_one_out: [4 * D] a prototype set aside; late_prototypes, or leave_one_out where
                                     // V > 0 or Updates::kImmediate: [N * D] int8 embeddings of the samples; average > 0:
                                     // [4 * K] original logits
  std::size_t scratch;               // the larger of features + image and of max(gradients of both, features) + head
  std::size_t total;                 // state + scratch
};

struct SecondHead;

// The addresses of the buffers.
struct Buffers {
  std::int8_t* samples;           // [max_samples][1 + num_views][features]; nullptr: they are in flash
  std::uint8_t* labels;           // [max_samples]
  std::uint8_t* plan;             // nullptr: chosen at export
  std::int8_t* features;          // the frozen part's output on the way to the stored sample, at the start of the scratch
  std::int8_t* image;             // one view, at the end of the scratch
  std::uint8_t* weights;          // see TrainedAt
  float* masters;                 // [num_weights]; nullptr: none are kept
  float* weight_gradients;        // [num_weights]
  float* optimizer;               // OptimizerFloats(num_weights, num_runs)
  std::uint8_t* activations;      // gradient region
  float* prototypes;              // [num_classes][dimension]
  float* embedding;               // [dimension]
  float* logits;                  // [num_classes]
  std::int32_t* counts;           // [num_classes] stored samples of each class
  float* set_aside;               // [dimension] a prototype, while one of its samples is left out; nullptr: not needed
  std::int8_t* embeddings;        // [max_samples][dimension] of the samples themselves; nullptr: not kept
  float* original_prototypes;     // [num_classes][dimension] with the weights in flash; nullptr: settings.average is 0
  float* original_logits;         // [num_classes]
  std::size_t num_weights;        // P
  std::size_t num_runs;           // R
  std::int32_t feature_elements;  // F
  std::int32_t dimension;         // D
  SecondHead* second_head;        // tinytrain_closed_form.h; nullptr: there is none
  bool in_slot;                   // of a copy that describes what a slot holds: the second head's samples too
};

// Bytes of the parts. The tables must have been checked.
MemoryParts MeasureParts(const Tables& tables, const TrainingSettings& settings, bool samples_in_flash);

// Divides an arena of at least `state` bytes, and a scratch of at least `scratch` bytes.
struct Scratch {
  std::uint8_t* data;
  std::size_t bytes;
};
Buffers CutArena(const Tables& tables, const TrainingSettings& settings, const MemoryParts& parts, bool samples_in_flash,
                 std::uint8_t* arena, const Scratch& scratch);

// The parts of a plan that the device chooses: the tables, the trained layers, and their channels or all candidates' scores.
Tables* PlanTables(const Buffers& buffers);
TrainedLayer* PlanLayers(const Buffers& buffers);
std::uint16_t* PlanChannels(const Buffers& buffers, const Candidates& candidates);
float* PlanScores(const Buffers& buffers, const Candidates& candidates);

// Bytes of one view of a stored sample in flash, and of all of them.
std::size_t FlashSampleBytes(const Tables& tables);
std::size_t FlashSamplesBytes(const Tables& tables, const TrainingSettings& settings);

std::int32_t NumElements(const Tensor& tensor);

// Values of a stored sample, and where in it a tensor with kStoredSample begins.
std::int32_t NumStored(const Tables& tables);
std::int32_t StoredOffset(const Tables& tables, std::int32_t tensor);

// Floats of a tensor's gradient: one for each element or, in a bottleneck interior, for each element of num_planes channels.
std::int32_t NumGradients(const Tensor& tensor);

// Output channels and weights of a layer with a kernel: weight j of channel c is kernel[c * channel_step + j * weight_step].
struct KernelLayout {
  std::int32_t output_channels;
  std::int32_t weights_per_channel;
  std::int32_t channel_step;
  std::int32_t weight_step;
};
KernelLayout LayoutOf(const Tables& tables, const Layer& layer);  // zeros without a kernel

// The same for the weights of a trained layer in RAM: output_channels of a split layer are the trained ones.
KernelLayout LayoutInRam(const Tables& tables, const TrainedLayer& trained);

// Whether an operator has weights.
bool HasKernel(Operator op);

// Whether a layer is a 1 x 1 convolution that keeps height and width.
bool IsPointwise(const Tables& tables, const Layer& layer);

// One trained layer: its rows of every buffer. Pointers to biases are nullptr if the layer has none.
struct TrainedState {
  const TrainedLayer* trained;
  const Layer* layer;
  KernelLayout layout;  // of the weights in RAM
  std::int8_t* kernel;  // in RAM: of all channels or, if the layer is split, of the trained ones
  std::int32_t* bias;   // in RAM, of the same channels
  std::size_t first;    // index of the first of these weights among all trained ones
  float* masters;       // [num_channels][weights per channel]; nullptr: there are no masters
  float* bias_masters;  // [num_channels]
  float* d_kernel;
  float* d_bias;
  float input_scale;

  // The index of the n-th trained channel in `kernel` and `bias`.
  std::int32_t Row(std::int32_t n) const { return trained->kernel != nullptr ? n : trained->channels[n]; }
};
TrainedState TrainedAt(const Tables& tables, const Buffers& buffers, std::int32_t index);

// Floats of one trained layer: num_channels * (weights per channel + 1 where there is a bias).
std::size_t NumTrainedWeights(const Tables& tables, const TrainedLayer& trained);

}  // namespace tinytrain

#endif  // TINYTRAIN_MEMORY_H_
