// Trains a few channels of an int8 TensorFlow Lite Micro model on the device. This header is the manual.
//
//   1. Put the exported `frozen.tflite` and `trainable.tflite` into flash and wrap them in a `Model`. tinytrain_tflm.h does so
//      for TensorFlow Lite Micro.
//   2. Give `Trainer::Init` the exported tables, that model and one arena. Init checks everything and divides the arena.
//      `RequiredBytes` tells its size before, part by part.
//   3. Call `AddSample` for a handful of labelled images, then `Train`, then `Predict`.
//   4. `SaveDelta` writes the delta: the changed channels and the prototypes. It goes into RAM or into one of two slots in
//      flash, where a power cut at any byte leaves the old delta or the new one. `LoadDelta` reads it after a reset. `Revert`
//      goes back to the weights in flash at any time, and a `SaveDelta` after it keeps that. `UndoSave` takes back the last
//      save, `FactoryReset` all of them. `MergeDeltas` and `DiffDeltas` (tinytrain_merge.h) combine saved deltas.
//
// If the tables list candidates (an adaptive export), the device itself chooses the layers and channels to train. `Train` does
// so before the first iteration of a new task. `Select` does so at any time, within a budget of the caller's
// (tinytrain/trainer/selection.h).
//
// Memory. The state (samples, weights, masters, optimizer, prototypes) lasts, and lies in the arena. Gradients and logits are
// scratch: they lie after the state in the same arena, or in the model's own memory (Model::scratch). The latter is possible
// because the frozen part, which has the largest arena of all, never runs while the trainer trains. Stored samples may lie in
// flash instead (`sample_flash`).
//
// One iteration (Head::kPrototypes):
//   p_k   = mean of the embeddings z of class k's stored samples, with the present weights; no gradient flows through it
//   view  = 1 + iteration % num_views (the sample itself if there are no views)
//   loss  = mean over samples of cross-entropy(softmax(logit_scale * cos(z_view, p)), label)
//   one optimizer step on the selected channels (kernel and bias) by the gradient of that mean
// Predict: logits = logit_scale * cos(z, p). The settings change this as follows.
//   leave_one_out         In the loss of sample i, its own class c has the prototype (n_c p_c - z_i) / (n_c - 1). z_i is the
//                         stored sample's own embedding, as in p_c. A sample that is alone in its class keeps p_c.
//   Updates::kImmediate   p and z_i are computed once, at the beginning of the iteration. Then each sample, in the order
//                         stored, has one optimizer step by the gradient of its own loss. An iteration takes as many steps as
//                         there are samples. Its loss is the mean of their losses, each before its own step.
//   WeightStorage         kFloatMasters: weights exist twice, as float32 masters, and rounded into the int8 kernels and int32
//                         biases that the forward pass reads. kInt8: in the latter only, with stochastic rounding.
//   average               Predict's logits are (1 - average) * those above + average * those of the original weights in
//                         flash, which have prototypes of their own. Each prediction runs the trainable part once more.
//   late_prototypes       p and z_i are those of the iteration before, and of its views: each sample then runs through the
//                         trainable part once. The first iteration, and one after a run of the frozen part, has p as above.
//   skip_loss             A sample whose own loss is below has no backward pass, and kImmediate takes no step by it.
//   stop_loss             Train ends after an iteration whose loss is below.
//
// A bundle may have a second head, which is solved in closed form and answers in place of the prototypes:
// tinytrain_closed_form.h.
//
// tinytrain_status.h lists the errors, tinytrain/memory/memory.h the parts of the arena and their sizes, and tinytrain_delta.h
// the format of a delta. trainable.tflite may have at most kMaxOutputs outputs. The library uses no heap, no exceptions, no
// RTTI and no global state. It is not thread safe. C++14.
#ifndef TINYTRAIN_H_
#define TINYTRAIN_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain/trainer/check.h"
#include "tinytrain_flash.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain/trainer/optimizer.h"
#include "tinytrain/trainer/second_head.h"
#include "tinytrain/trainer/selection.h"
#include "tinytrain_status.h"
#include "tinytrain_tables.h"

namespace tinytrain {

// Forward passes: TensorFlow Lite Micro on the device, elsewhere anything that equals its reference kernels.
struct Model {
  void* context;
  // Runs the frozen part on one int8 image and writes a stored sample, its outputs one after the other. nullptr: there is no
  // frozen part. If there is `scratch`, the image may lie in its last MemoryParts::image bytes, and the features at its start.
  bool (*run_frozen)(void* context, const std::int8_t* image, std::int8_t* features);
  // Runs the trainable part; outputs[0..num_outputs) point to its int8 outputs until the next call.
  bool (*run_trainable)(void* context, const std::int8_t* features, const std::int8_t** outputs);
  // Makes the trainable part read tensor `tensor_index` of trainable.tflite from `data`: the trainer's arena or, for the
  // original weights, flash (Layer::kernel and bias). Init calls it; with average > 0, Train and Predict switch back and forth.
  bool (*bind)(void* context, std::int32_t tensor_index, const void* data, std::size_t data_bytes);
  // Prepares the trainable part: the scratch belongs to the trainer until the next run_frozen. nullptr: nothing to do.
  bool (*open_trainable)(void* context) = nullptr;
  // Prepares the frozen part and returns its input. A caller that fills it and passes it to run_frozen saves a buffer and a
  // copy. nullptr: the model offers no input.
  std::int8_t* (*frozen_input)(void* context) = nullptr;
  // Memory that only the frozen part uses, at least MemoryParts::scratch bytes, aligned to 16. nullptr: scratch is in the
  // arena.
  std::uint8_t* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  // Bytes that run_frozen writes, for Init to compare; 0: not known.
  std::size_t stored_bytes = 0;
  // Runs the frozen part, which stays prepared, and returns the stored sample where it lies until the next run. nullptr: the
  // model cannot.
  const std::int8_t* (*run_frozen_in_place)(void* context, const std::int8_t* image) = nullptr;
};

// Called after each iteration, numbered from 0 since Init, LoadDelta or Revert. Return false to stop; the weights learned so
// far are kept.
using Progress = bool (*)(void* context, std::int32_t iteration, float loss);

class Trainer {
 public:
  // Needs no initialised trainer. `parts` may be nullptr. 0 for tables or settings that Init would refuse. With candidates: the
  // bytes needed to score them. Any further bytes of the arena and of the model's scratch are for the chosen channels.
  static std::size_t RequiredBytes(const Tables& tables, const TrainingSettings& settings, MemoryParts* parts,
                                   bool samples_in_flash = false);

  // All arguments must outlive the trainer, except `settings` (usually tables.training) and the structs Model and Flash
  // themselves. Init checks every index, size and pointer of the tables, so that no later call has to. The arena is aligned to
  // 16 bytes and has MemoryParts::total bytes or, if the model has scratch, MemoryParts::state. `sample_flash` has
  // FlashSamplesBytes (tinytrain/memory/memory.h); nullptr: samples are kept in the arena.
  Status Init(const Tables& tables, const TrainingSettings& settings, const Model& model, std::uint8_t* arena,
              std::size_t arena_bytes, const Flash* sample_flash = nullptr);

  // Runs the frozen part once per view and keeps the results. `image` has image_height * image_width * image_channels int8.
  // In flash, a page is erased for the first sample that begins on it or crosses into it.
  Status AddSample(const std::int8_t* image, std::int32_t label);
  // Memory for the image of the very next AddSample or Predict, so that a sketch needs no buffer of its own. It overlaps the
  // gradients. nullptr if the model has no Model::frozen_input.
  std::int8_t* ImageBuffer();
  // Takes back a sample, 0 to num_samples() - 1. In RAM those after it move up; in flash its place stays taken until
  // ClearSamples.
  void RemoveSample(std::int32_t sample);
  void ClearSamples();
  std::int32_t num_samples() const { return num_samples_; }

  // Goes back to the weights in flash and chooses the channels to train by the stored samples. kInvalidTables: no candidates.
  Status Select(const Budget& budget);

  // The first half of Select: Fisher information of the candidates' channels, one layer's after the other's, valid until the
  // next call. `scores` may be nullptr. No channel is chosen.
  Status Score(const float** scores);

  // Trains for settings.iterations, or less by settings.stop_loss. Progress may be nullptr. With settings.only_if_needed and a
  // second head, that head is solved first, and if it gets every sample right that is left out of it, nothing is trained. A
  // head that chooses (Maps::choice) is solved first too, and the iterations are those of what answers. With candidates, and if
  // none was chosen since Init, ClearSamples or Revert, it calls Select first, with all memory and multiply-accumulates that
  // there are.
  Status Train(Progress progress, void* progress_context);
  // One iteration; `loss` is the mean before the update. kNotSelected: no channel was chosen yet.
  Status Step(float* loss);
  // The gradient half of Step for Updates::kAccumulated: computes the weight gradients of the mean loss, changes no weight.
  Status ComputeGradients(float* loss);
  // Recomputes the prototypes from the stored samples with the present weights and, for average > 0, with the original weights.
  // Train ends with it. After Step, call it before Predict and SaveDelta.
  Status UpdatePrototypes();

  // Writes num_classes logits; the label is the index of the largest, or kNone where a closed-form head takes the image for one
  // of no class. `logits` or `label` may be nullptr. kNotTrained: there are no prototypes, or the loaded delta has no original
  // ones. UpdatePrototypes makes both from stored samples.
  Status Predict(const std::int8_t* image, float* logits, std::int32_t* label);

  // Bytes that SaveDelta writes: constant after Init or, with candidates, after Select; another head that answers has others.
  // tinytrain_delta.h has the format.
  std::size_t DeltaBytes() const;
  Status SaveDelta(std::uint32_t sequence, std::uint8_t* data, std::size_t data_bytes, std::size_t* written) const;
  // Writes into the older of two slots, each of half the pages, with the next sequence number. After Init or Revert it writes
  // a delta that means "as exported". Writes nothing if the newer slot says the same already, so that the older one stays.
  // Needs 600 bytes of stack.
  Status SaveDelta(const Flash& slots) const;
  // Checks the whole delta before it changes a weight. Channels that the delta does not hold go back to the weights in flash.
  // With candidates, the delta's layers and channels become the plan; kArenaTooSmall: the arena has no room for them.
  Status LoadDelta(const std::uint8_t* data, std::size_t data_bytes);
  // Reads the newer of two slots; kDeltaCorrupt: neither holds a delta.
  Status LoadDelta(const Flash& slots);
  // Goes back to the older of two slots for good: loads it, then erases the newer one. kNothingOlder: it holds no delta, and
  // nothing changes.
  Status UndoSave(const Flash& slots);
  // As exported for good: Revert, ClearSamples, and both slots are erased.
  Status FactoryReset(const Flash& slots);
  // Whether LoadDelta(slots), or Init if neither slot holds a delta, would lead to the present weights and prototypes.
  bool IsSaved(const Flash& slots) const;
  // Whether the weights are those in flash and there are no prototypes.
  bool IsAsExported() const;
  // Goes back to the weights in flash. Prototypes and optimizer state are forgotten, samples stay. With candidates, the next
  // Train chooses again.
  void Revert();

  // For inspection. Trained weights, their masters and gradients lie layer by layer: [num_channels][weights per channel], then
  // [num_channels] biases if the layer has them. Gradients are those of the mean loss (Updates::kImmediate: of the last
  // sample's loss); the next AddSample or Predict overwrites them.
  const Buffers& buffers() const { return buffers_; }
  // As exported or, with candidates, a copy that lists the chosen layers and channels.
  const Tables& tables() const { return *tables_; }
  MemoryParts memory_parts() const { return MeasureParts(*tables_, settings_, buffers_.samples == nullptr); }
  const TrainingSettings& settings() const { return settings_; }
  bool has_prototypes() const { return has_prototypes_; }
  bool has_original_prototypes() const { return has_original_prototypes_; }
  std::int32_t iteration() const { return iteration_; }
  // False: the sample was taken back, and its place is empty.
  bool IsKept(std::int32_t sample) const { return buffers_.labels[sample] != kForgotten; }
  // The frozen part's output of a stored sample (view 0) or of one of its views.
  const std::int8_t* StoredSample(std::int32_t sample, std::int32_t view) const;

 private:
  friend class ClosedForm;  // a second head, over the same weights, samples and scratch

  std::size_t SampleIndex(std::int32_t sample, std::int32_t view) const;
  Status StoreView(const std::int8_t* image, std::int32_t view);
  bool ClaimScratch();
  bool BindWeights(bool original);
  bool CanPredict() const;
  bool SavesPass();
  void ListRecords(Tables* tables, Buffers* buffers) const;
  Status CheckSamples();
  // False: it is of no class, or forgotten (tinytrain_closed_form.h).
  bool IsOfClass(std::int32_t sample) const { return buffers_.labels[sample] < settings_.num_classes; }
  Status Embed(const std::int8_t* features, float* embedding, const std::int8_t** outputs);
  void KeepEmbedding(std::int32_t sample, const std::int8_t* embedding);
  const std::int8_t* RunTrainable(const std::int8_t* features, const std::int8_t** outputs);
  Status MeanEmbeddings(float* prototypes);
  Status UpdateAdaptedPrototypes();
  Status UpdateOriginalPrototypes();
  Status RunSamples(Updates updates, float* loss);
  float PrototypeLoss(std::int32_t sample, const std::int8_t* const* outputs, bool leaves_out, float* d_embedding);
  Status HeadGradient(std::int32_t sample, const std::int8_t* features, bool leaves_out, const std::int8_t** outputs,
                      float* loss);
  bool HasCandidates() const { return exported_->candidates.num_layers > 0; }
  void CutBuffers();
  bool ForgetPlan();
  Status AdoptPlan(const std::uint8_t* delta);
  Status Logits(const float* prototypes, float* logits);
  Status Answer();
  const std::int8_t* MakeView(const std::int8_t* image, const View& view);
  bool RunFrozen(const std::int8_t* image, std::int8_t* features);
  void ForgetGradients();
  void ForgetHead();
  void ForgetOriginals();
  Status UpdateOwnPrototypes();
  void SamplesChanged();
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
  bool original_weights_ = true;
  bool has_prototypes_ = false;
  bool has_original_prototypes_ = false;
  bool originals_are_current_ = false;  // they are those of the stored samples
  bool has_late_prototypes_ = false;    // of Step, as the settings say or, in Train, a head that chooses
  bool has_embeddings_ = false;         // Buffers::embeddings are of the last iteration; with the original weights, theirs
};

}  // namespace tinytrain

#endif  // TINYTRAIN_H_
