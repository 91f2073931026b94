// Learns a few channels of an int8 TensorFlow Lite Micro model, on the device. This header is the manual.
//
//   1. Put the exported `frozen.tflite` and `trainable.tflite` into flash and wrap them in a `Model` (tinytrain_tflm.h does so
//      for TensorFlow Lite Micro).
//   2. Give `Trainer::Init` the exported tables, that model and one arena. It checks everything and cuts the arena up;
//      `RequiredBytes` says beforehand how much that takes, part by part.
//   3. `AddSample` a handful of labelled images, `Train`, then `Predict`.
//   4. `SaveDelta` what was learned (changed channels and prototypes only), into RAM, or into one of two slots in flash, where
//      a power cut at any byte leaves the old delta or the new one; `LoadDelta` it after a reset; `Revert` to the weights in
//      flash at any time. `MergeDeltas` and `DiffDeltas` (tinytrain_merge.h) work on saved ones.
//
// Where the tables list candidates (exported as adaptive), the device decides itself which layers and channels to train: Train
// does so before the first iteration of a new task, `Select` at any time and within a budget of its own
// (tinytrain/trainer/selection.h).
//
// Memory. What lasts (samples, weights, masters, optimizer, prototypes) lies in the arena. What does not (gradients, logits) is
// scratch: behind it in the same arena, or in the model's own memory (Model::scratch), because the frozen part, whose arena
// is the largest of all, never runs while the trainer trains. Stored samples may lie in flash instead (`sample_flash`).
//
// What it computes, per iteration (Head::kPrototypes):
//   p_k   = mean of the embeddings z of class k's stored samples, with the weights as they are now; no gradient through it
//   view  = 1 + iteration % num_views (the sample itself when there are no views)
//   loss  = mean over samples of cross-entropy(softmax(logit_scale * cos(z_view, p)), label)
//   one optimizer step on the selected channels (kernel and bias) from the gradient of that mean
// and in Predict: logits = logit_scale * cos(z, p). What the settings change of that:
//   leave_one_out         in the loss of sample i, its own class c has the prototype (n_c p_c - z_i) / (n_c - 1), where z_i is
//                         the stored sample's own embedding, as in p_c; if it is the only one of its class, p_c
//   Updates::kImmediate   p and z_i once, at the iteration's beginning; then sample by sample, in the order stored: gradient of
//                         its loss alone, one optimizer step. An iteration takes as many steps as there are samples; its loss
//                         is the mean of their losses, each before its own step
//   WeightStorage         kFloatMasters: weights live twice, as float32 masters, and rounded into the int8 kernels and int32
//                         biases that the forward pass reads. kInt8: in the latter alone, and a step rounds by chance
//   average               Predict's logits are (1 - average) * those above + average * those of the original weights, in
//                         flash, with prototypes of their own; one more run of the trainable part for each prediction
//
// What can go wrong is in tinytrain_status.h, what the arena's parts hold and how large each is in tinytrain/memory/memory.h,
// the format of a delta in tinytrain_delta.h. At most kMaxOutputs outputs of trainable.tflite can be followed. The library uses
// no heap, no exceptions, no RTTI, no global state. It is not thread safe. C++14.
#ifndef TINYTRAIN_H_
#define TINYTRAIN_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain/trainer/check.h"
#include "tinytrain_flash.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain/trainer/optimizer.h"
#include "tinytrain/trainer/selection.h"
#include "tinytrain_status.h"
#include "tinytrain_tables.h"

namespace tinytrain {

// Forward passes. TensorFlow Lite Micro on the device; anything that equals its reference kernels elsewhere.
struct Model {
  void* context;
  // Runs the frozen part on one int8 image, writes the trainable part's input. nullptr: there is no frozen part. Where there is
  // `scratch`, the image may lie in its last MemoryParts::image bytes, and the features at its start.
  bool (*run_frozen)(void* context, const std::int8_t* image, std::int8_t* features);
  // Runs the trainable part; outputs[0..num_outputs) point to its int8 outputs until the next call.
  bool (*run_trainable)(void* context, const std::int8_t* features, const std::int8_t** outputs);
  // Reads tensor `tensor_index` of trainable.tflite from `data` from now on: from the trainer's arena or, for the original
  // weights, from flash (Layer::kernel and bias). Called by Init; with average > 0 also by Train and Predict, back and forth.
  bool (*bind)(void* context, std::int32_t tensor_index, const void* data, std::size_t data_bytes);
  // Readies the trainable part: from now to the next run_frozen, the scratch is the trainer's. nullptr: nothing to do.
  bool (*open_trainable)(void* context) = nullptr;
  // Readies the frozen part and returns its input: a caller that fills it and passes it to run_frozen saves a buffer and a
  // copy. nullptr: none has to be offered.
  std::int8_t* (*frozen_input)(void* context) = nullptr;
  // Memory that only the frozen part uses, at least MemoryParts::scratch bytes, aligned to 16. nullptr: it is in the arena.
  std::uint8_t* scratch = nullptr;
  std::size_t scratch_bytes = 0;
};

// Called after each iteration, numbered from 0 since Init, LoadDelta or Revert; return false to stop (what was learned so far
// is kept).
using Progress = bool (*)(void* context, std::int32_t iteration, float loss);

class Trainer {
 public:
  // Needs no initialised trainer. `parts` may be nullptr. 0 for tables or settings that Init would refuse. With candidates:
  // what it takes to score them; whatever the arena and the model's scratch have beyond that is for what is chosen.
  static std::size_t RequiredBytes(const Tables& tables, const TrainingSettings& settings, MemoryParts* parts,
                                   bool samples_in_flash = false);

  // Everything passed must outlive the trainer, but for `settings`, which is usually tables.training, and the structs Model and
  // Flash themselves. Checks every index, size and pointer of the tables, so that nothing after it has to. The arena, aligned
  // to 16 bytes, has MemoryParts::total bytes; where the model has scratch, MemoryParts::state. `sample_flash` takes
  // FlashSamplesBytes (tinytrain/memory/memory.h); nullptr: samples are kept in the arena.
  Status Init(const Tables& tables, const TrainingSettings& settings, const Model& model, std::uint8_t* arena,
              std::size_t arena_bytes, const Flash* sample_flash = nullptr);

  // Runs the frozen part once per view and keeps the results. `image` has image_height * image_width * image_channels int8.
  // In flash, a page is erased when the first sample comes that begins on it or crosses into it.
  Status AddSample(const std::int8_t* image, std::int32_t label);
  // Where the image of the very next AddSample or Predict can be put, so that a sketch needs no buffer for it; it takes the
  // place of gradients. nullptr where the model has no Model::frozen_input.
  std::int8_t* ImageBuffer();
  void ClearSamples();
  std::int32_t num_samples() const { return num_samples_; }

  // Goes back to the weights in flash and chooses, from the stored samples, what to train. kInvalidTables without candidates.
  Status Select(const Budget& budget);

  // The first half of Select: Fisher information of the candidates' channels, one layer's behind the other's, good until the
  // next call. `scores` may be nullptr. Nothing is chosen then.
  Status Score(const float** scores);

  // Trains for settings.iterations. Progress may be nullptr. With candidates, and nothing chosen since Init, ClearSamples or
  // Revert: Select within all that there is comes first.
  Status Train(Progress progress, void* progress_context);
  // One iteration; `loss` is the mean before the update. kNotSelected where nothing was chosen to be trained.
  Status Step(float* loss);
  // The gradient half of Step for Updates::kAccumulated: fills the weight gradients of the mean loss, moves nothing.
  Status ComputeGradients(float* loss);
  // Recomputes the prototypes from the stored samples with the weights as they are and, for average > 0, with the original
  // ones. Train ends with it; after Step, Predict and SaveDelta need it.
  Status UpdatePrototypes();

  // Writes num_classes logits; the label is the index of the largest. `logits` or `label` may be nullptr. kNotTrained: without
  // prototypes, or a delta without original ones was loaded; UpdatePrototypes makes both from stored samples.
  Status Predict(const std::int8_t* image, float* logits, std::int32_t* label);

  // What SaveDelta writes; the same from Init, or with candidates from Select, on. The format is in tinytrain_delta.h.
  std::size_t DeltaBytes() const;
  Status SaveDelta(std::uint32_t sequence, std::uint8_t* data, std::size_t data_bytes, std::size_t* written) const;
  // Into the older of two slots, each of half the pages, with the next sequence number; 256 bytes of stack, no other RAM.
  Status SaveDelta(const Flash& slots) const;
  // Checks everything before it changes anything. Channels that the delta does not hold go back to the weights in flash. With
  // candidates, the delta's layers and channels become the plan; kArenaTooSmall where there is no room for them.
  Status LoadDelta(const std::uint8_t* data, std::size_t data_bytes);
  // The newer of two slots; kDeltaCorrupt where neither holds a delta.
  Status LoadDelta(const Flash& slots);
  // Back to the weights in flash; prototypes and optimizer state are forgotten, samples stay. With candidates, the next Train
  // chooses anew.
  void Revert();

  // To look inside. Trained weights, their masters and gradients lie layer by layer: [num_channels][weights per channel], then
  // [num_channels] biases where there are any. Gradients are of the mean loss (Updates::kImmediate: of the last sample's), and
  // gone with the next AddSample or Predict.
  const Buffers& buffers() const { return buffers_; }
  // As exported or, with candidates, a copy that trains what was chosen.
  const Tables& tables() const { return *tables_; }
  MemoryParts memory_parts() const { return MeasureParts(*tables_, settings_, buffers_.samples == nullptr); }
  const TrainingSettings& settings() const { return settings_; }
  bool has_prototypes() const { return has_prototypes_; }
  bool has_original_prototypes() const { return has_original_prototypes_; }
  std::int32_t iteration() const { return iteration_; }
  // The frozen part's output of a stored sample (view 0) or of one of its views.
  const std::int8_t* StoredSample(std::int32_t sample, std::int32_t view) const;

 private:
  std::size_t SampleIndex(std::int32_t sample, std::int32_t view) const;
  Status StoreView(const std::int8_t* image, std::int32_t view);
  bool ClaimScratch();
  bool BindWeights(bool original);
  bool CanPredict() const;
  Status CheckSamples();
  Status Embed(const std::int8_t* features, float* embedding, const std::int8_t** outputs);
  Status MeanEmbeddings(float* prototypes, std::int8_t* embeddings);
  Status UpdateAdaptedPrototypes();
  Status UpdateOriginalPrototypes();
  Status RunSamples(Updates updates, float* loss);
  Status SampleGradient(std::int32_t sample, std::int32_t view, float* loss);
  float PrototypeLoss(std::int32_t sample, const std::int8_t* const* outputs, bool leaves_out, float* d_embedding);
  Status HeadGradient(std::int32_t sample, std::int32_t view, bool leaves_out, const std::int8_t** outputs, float* loss);
  bool HasCandidates() const { return exported_->candidates.num_layers > 0; }
  void CutBuffers();
  bool ForgetPlan();
  Status AdoptPlan(const std::uint8_t* delta);
  Status AverageWithOriginal(const std::int8_t* features);
  const std::int8_t* MakeView(const std::int8_t* image, const View& view);
  bool RunFrozen(const std::int8_t* image, std::int8_t* features);
  void ForgetGradients();
  void UpdateWeights();

  const Tables* exported_ = nullptr;
  const Tables* tables_ = nullptr;
  Room room_{};
  std::uint8_t* arena_ = nullptr;
  Scratch scratch_{};
  bool must_select_ = false;
  TrainingSettings settings_{};
  Model model_{};
  Buffers buffers_{};
  Flash sample_flash_{};
  AdamCorrection adam_correction_{};
  std::int32_t num_samples_ = 0;
  std::int32_t iteration_ = 0;
  std::uint32_t optimizer_step_ = 0;
  bool has_prototypes_ = false;
  bool has_original_prototypes_ = false;
};

}  // namespace tinytrain

#endif  // TINYTRAIN_H_
