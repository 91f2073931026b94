#include "tinytrain/numerics/strict_float.h"

#include "tinytrain.h"

#include <cstring>

#include "tinytrain/backward/backward.h"
#include "tinytrain/trainer/head.h"
#include "tinytrain/numerics/math.h"
#include "tinytrain/memory/weights.h"

namespace tinytrain {
namespace {

std::int32_t ArgMax(const float* values, std::int32_t count) {
  std::int32_t best = 0;
  for (std::int32_t i = 1; i < count; ++i) {
    if (values[i] > values[best]) best = i;
  }
  return best;
}

// The tables before the device has chosen, if it is to choose.
Tables WithoutPlan(const Tables& tables) {
  Tables without = tables;
  if (tables.candidates.num_layers > 0) without.num_trained = 0;
  return without;
}

std::size_t WholeUnits(std::size_t bytes) { return bytes / kArenaAlignment * kArenaAlignment; }

bool IsAligned(const std::uint8_t* memory) { return reinterpret_cast<std::uintptr_t>(memory) % kArenaAlignment == 0; }

bool BindLayer(const Model& model, const TrainedState& state, const std::int8_t* kernel, const std::int32_t* bias) {
  const auto num_outputs = static_cast<std::size_t>(state.layout.output_channels);
  const std::size_t kernel_bytes = num_outputs * static_cast<std::size_t>(state.layout.weights_per_channel);
  if (!model.bind(model.context, state.trained->kernel_tensor, kernel, kernel_bytes)) return false;
  return bias == nullptr || model.bind(model.context, state.trained->bias_tensor, bias, num_outputs * sizeof(std::int32_t));
}

}  // namespace

std::size_t Trainer::RequiredBytes(const Tables& tables, const TrainingSettings& settings, MemoryParts* parts,
                                   bool samples_in_flash) {
  const bool valid = CheckTables(tables) == Status::kOk && CheckSettings(tables, settings) == Status::kOk;
  const MemoryParts required = valid ? MeasureParts(WithoutPlan(tables), settings, samples_in_flash) : MemoryParts{};
  if (parts != nullptr) *parts = required;
  return required.total;
}

Status Trainer::Init(const Tables& tables, const TrainingSettings& settings, const Model& model, std::uint8_t* arena,
                     std::size_t arena_bytes, const Flash* sample_flash) {
  Status status = CheckTables(tables);
  if (status == Status::kOk) status = CheckSettings(tables, settings);
  if (status != Status::kOk) return status;
  if (arena == nullptr) return Status::kArenaTooSmall;
  if (!IsAligned(arena) || !IsAligned(model.scratch)) return Status::kArenaMisaligned;
  const bool in_flash = sample_flash != nullptr;
  const Room room = {WholeUnits(arena_bytes), model.scratch == nullptr ? 0 : WholeUnits(model.scratch_bytes)};
  if (model.scratch != nullptr && room.scratch_bytes == 0) return Status::kArenaTooSmall;
  const Tables without = WithoutPlan(tables);
  if (!room.Holds(MeasureParts(without, settings, in_flash))) return Status::kArenaTooSmall;
  if (in_flash) status = CheckFlash(*sample_flash, FlashSamplesBytes(tables, settings));
  if (status != Status::kOk) return status;
  const std::int32_t image_elements = tables.image_height * tables.image_width * tables.image_channels;
  if (model.run_frozen == nullptr && image_elements != NumStored(tables)) return Status::kInvalidTables;
  if (model.stored_bytes != 0 && model.stored_bytes != static_cast<std::size_t>(NumStored(tables)))
    return Status::kInvalidTables;
  if (model.run_trainable == nullptr || model.bind == nullptr) return Status::kModelFailed;

  exported_ = &tables;
  settings_ = settings;
  has_late_prototypes_ = settings.late_prototypes;
  model_ = model;
  room_ = room;
  arena_ = arena;
  sample_flash_ = in_flash ? *sample_flash : Flash{};
  buffers_.second_head = nullptr;
  tables_ = &without;
  CutBuffers();
  tables_ = &tables;
  if (HasCandidates()) {
    tinytrain::ForgetPlan(tables, buffers_);
    tables_ = PlanTables(buffers_);
  }
  ClearSamples();
  Revert();
  return BindWeights(false) ? Status::kOk : Status::kModelFailed;
}

// Divides the arena for the layers that are trained now.
void Trainer::CutBuffers() {
  const bool in_flash = sample_flash_.data != nullptr;
  const MemoryParts parts = MeasureParts(*tables_, settings_, in_flash);
  scratch_ = {model_.scratch, room_.scratch_bytes};
  if (model_.scratch == nullptr) scratch_ = {arena_ + parts.state, parts.scratch};
  SecondHead* const second_head = buffers_.second_head;
  buffers_ = CutArena(*tables_, settings_, parts, in_flash, arena_, scratch_);
  buffers_.second_head = second_head;
}

// The trainable part reads the adapted weights in the arena, or the original ones in flash.
bool Trainer::BindWeights(bool original) {
  for (std::int32_t t = 0; t < tables_->num_trained; ++t) {
    const TrainedState state = TrainedAt(*tables_, buffers_, t);
    const bool bound = original ? BindLayer(model_, state, OriginalKernel(state), OriginalBias(state))
                                : BindLayer(model_, state, state.kernel, state.bias);
    if (!bound) return false;
  }
  return true;
}

// The scratch belongs to the trainer until the next run of the frozen part. Call it before writing there.
bool Trainer::ClaimScratch() { return model_.open_trainable == nullptr || model_.open_trainable(model_.context); }

// The head's input, int8; nullptr: the model failed.
const std::int8_t* Trainer::RunTrainable(const std::int8_t* features, const std::int8_t** outputs) {
  return model_.run_trainable(model_.context, features, outputs) ? outputs[tables_->head_output] : nullptr;
}

// Real values of the head's input.
Status Trainer::Embed(const std::int8_t* features, float* embedding, const std::int8_t** outputs) {
  const std::int8_t* const values = RunTrainable(features, outputs);
  if (values == nullptr) return Status::kModelFailed;
  const Tensor& tensor = tables_->tensors[tables_->num_tensors - 1];
  Dequantize(embedding, values, tensor.scale, tensor.zero_point, buffers_.dimension);
  return Status::kOk;
}

// If embeddings are kept.
void Trainer::KeepEmbedding(std::int32_t sample, const std::int8_t* embedding) {
  if (buffers_.embeddings == nullptr) return;
  std::memmove(buffers_.embeddings + sample * buffers_.dimension, embedding, static_cast<std::size_t>(buffers_.dimension));
}

// p_k = mean of the embeddings of class k with the bound weights, or of those that are kept.
Status Trainer::MeanEmbeddings(float* prototypes) {
  const std::int32_t dimension = buffers_.dimension;
  const Tensor& tensor = tables_->tensors[tables_->num_tensors - 1];
  const std::int8_t* outputs[kMaxOutputs];
  for (std::int32_t i = 0; i < settings_.num_classes * dimension; ++i) prototypes[i] = 0.0f;
  for (std::int32_t s = 0; s < num_samples_; ++s) {
    if (!IsOfClass(s)) continue;
    const std::int8_t* const embedding =
        kMayLeaveOut && has_embeddings_ ? buffers_.embeddings + s * dimension : RunTrainable(StoredSample(s, 0), outputs);
    if (embedding == nullptr) return Status::kModelFailed;
    AddEmbedding(prototypes + buffers_.labels[s] * dimension, embedding, tensor.zero_point, dimension);
    if (prototypes == buffers_.prototypes) KeepEmbedding(s, embedding);
  }
  for (std::int32_t k = 0; k < settings_.num_classes; ++k) {
    MeanOfSums(prototypes + k * dimension, tensor.scale, buffers_.counts[k], dimension);
  }
  return Status::kOk;
}

// Neither the prototypes nor the second head are those of the present weights any more, and no embeddings are kept.
void Trainer::ForgetHead() {
  has_prototypes_ = false;
  if (kMayLeaveOut) has_embeddings_ = false;
  if (buffers_.second_head != nullptr) buffers_.second_head->answers = buffers_.second_head->is_unknown = false;
}

void Trainer::ForgetOriginals() { has_original_prototypes_ = originals_are_current_ = false; }

// Prototypes of the original weights are those of the same samples, and need no run of their own later.
Status Trainer::UpdateAdaptedPrototypes() {
  if (!ClaimScratch()) return Status::kModelFailed;
  Status status = CheckSamples();
  if (status != Status::kOk || tables_->head != Head::kPrototypes) return status;
  status = MeanEmbeddings(buffers_.prototypes);
  ForgetHead();
  has_prototypes_ = status == Status::kOk;
  if (!original_weights_ || buffers_.original_prototypes == nullptr || originals_are_current_) return status;
  const auto num_values = static_cast<std::size_t>(settings_.num_classes) * static_cast<std::size_t>(buffers_.dimension);
  std::memcpy(buffers_.original_prototypes, buffers_.prototypes, num_values * sizeof(float));
  has_original_prototypes_ = originals_are_current_ = has_prototypes_;
  return status;
}

Status Trainer::UpdateOriginalPrototypes() {
  Status status = BindWeights(true) ? MeanEmbeddings(buffers_.original_prototypes) : Status::kModelFailed;
  if (!BindWeights(false)) status = Status::kModelFailed;
  has_original_prototypes_ = originals_are_current_ = status == Status::kOk;
  return status;
}

Status Trainer::UpdatePrototypes() {
  SecondHead* const second = buffers_.second_head;
  return second != nullptr ? second->update(second) : UpdateOwnPrototypes();
}

Status Trainer::UpdateOwnPrototypes() {
  if (kMayLeaveOut && !original_weights_) has_embeddings_ = false;  // they are late
  const Status status = UpdateAdaptedPrototypes();
  if (status != Status::kOk || buffers_.original_prototypes == nullptr || originals_are_current_) return status;
  return UpdateOriginalPrototypes();
}

// Cross-entropy of the present embedding over the classes' prototypes, and its gradient. `outputs` are those of its sample.
float Trainer::PrototypeLoss(std::int32_t sample, const std::int8_t* const* outputs, bool leaves_out, float* d_embedding) {
  const std::int32_t dimension = buffers_.dimension;
  const std::int32_t label = buffers_.labels[sample];
  leaves_out = leaves_out && buffers_.counts[label] > 1;
  float* prototype = buffers_.prototypes + label * dimension;
  if (leaves_out) {
    const Tensor& tensor = tables_->tensors[tables_->num_tensors - 1];
    const std::int8_t* own =
        buffers_.embeddings != nullptr ? buffers_.embeddings + sample * dimension : outputs[tables_->head_output];
    LeaveOut(prototype, buffers_.set_aside, own, tensor.scale, tensor.zero_point, buffers_.counts[label], dimension);
  }
  CosineLogits(buffers_.logits, buffers_.embedding, buffers_.prototypes, settings_.logit_scale, settings_.num_classes,
               dimension);
  const float loss = SoftmaxCrossEntropy(buffers_.logits, label, settings_.num_classes);
  CosineBackward(d_embedding, buffers_.logits, buffers_.embedding, buffers_.prototypes, settings_.logit_scale,
                 settings_.num_classes, dimension);
  if (leaves_out) std::memcpy(prototype, buffers_.set_aside, static_cast<std::size_t>(dimension) * sizeof(float));
  return loss;
}

// One sample's loss, of a view's features; writes its gradient with respect to the head's input into the last tensor's
// gradient.
Status Trainer::HeadGradient(std::int32_t sample, const std::int8_t* features, bool leaves_out, const std::int8_t** outputs,
                             float* loss) {
  const bool has_prototypes = tables_->head == Head::kPrototypes;
  const Status status = Embed(features, has_prototypes ? buffers_.embedding : buffers_.logits, outputs);
  if (status != Status::kOk) return status;
  float* d_head = GradientOf(*tables_, buffers_, tables_->num_tensors - 1);
  if (has_prototypes) {
    *loss = PrototypeLoss(sample, outputs, leaves_out, d_head);
  } else {
    *loss = SoftmaxCrossEntropy(buffers_.logits, buffers_.labels[sample], settings_.num_classes);
    std::memcpy(d_head, buffers_.logits, static_cast<std::size_t>(buffers_.dimension) * sizeof(float));
  }
  return Status::kOk;
}

void Trainer::ForgetGradients() { std::memset(buffers_.weight_gradients, 0, buffers_.num_weights * sizeof(float)); }

// Every sample's loss and gradients. kAccumulated leaves the mean of the gradients, kImmediate takes a step by each.
Status Trainer::RunSamples(Updates updates, float* loss) {
  if (tables_->num_trained == 0) return Status::kNotSelected;
  const std::int8_t* outputs[kMaxOutputs];
  Status status = UpdateAdaptedPrototypes();
  if (status != Status::kOk) return status;
  const std::int32_t view = tables_->num_views > 0 ? 1 + iteration_ % tables_->num_views : 0;
  float sum = 0.0f;
  std::int32_t count = 0;
  for (std::int32_t s = 0; s < num_samples_; ++s) {
    if (!IsOfClass(s)) continue;
    if (count++ == 0 || updates == Updates::kImmediate) ForgetGradients();
    float own = 0.0f;
    const std::int8_t* const features = StoredSample(s, view);
    status = HeadGradient(s, features, settings_.leave_one_out, outputs, &own);
    if (status != Status::kOk) return status;
    sum += own;
    if (kMayLeaveOut) KeepEmbedding(s, outputs[tables_->head_output]);  // that of the prototypes is not read again
    if (kMayLeaveOut && own < settings_.skip_loss) continue;
    Backward(*tables_, buffers_, features, outputs);
    if (updates == Updates::kAccumulated) continue;
    FinishWeightGradients(*tables_, buffers_, 1);
    UpdateWeights();
  }
  if (updates == Updates::kAccumulated) FinishWeightGradients(*tables_, buffers_, count);
  if (loss != nullptr) *loss = sum / static_cast<float>(count);
  return Status::kOk;
}

Status Trainer::ComputeGradients(float* loss) { return RunSamples(Updates::kAccumulated, loss); }

void Trainer::UpdateWeights() {
  original_weights_ = false;
  OptimizerStep step(settings_, buffers_.weight_gradients, buffers_.num_weights, buffers_.optimizer, &adam_correction_);
  const RandomKey random_key = {settings_.seed, optimizer_step_++};
  for (std::int32_t t = 0; t < tables_->num_trained; ++t) MoveWeights(TrainedAt(*tables_, buffers_, t), &step, random_key);
}

Status Trainer::Step(float* loss) {
  const Status status = RunSamples(settings_.updates, loss);
  if (status != Status::kOk) return status;
  if (settings_.updates == Updates::kAccumulated) UpdateWeights();
  has_embeddings_ = kMayLeaveOut && has_late_prototypes_ && !original_weights_;
  ++iteration_;
  return Status::kOk;
}

// Whether a second head that is solved before training saves a pass: the rows of the original weights, which it needs in any
// case, are also the first prototypes.
bool Trainer::SavesPass() {
  const bool averages = buffers_.original_prototypes != nullptr, keeps = buffers_.embeddings != nullptr;
  return kMayLeaveOut && averages && keeps && original_weights_ && ClaimScratch() && CheckSamples() == Status::kOk;
}

Status Trainer::Train(Progress progress, void* progress_context) {
  SecondHead* const head = buffers_.second_head;
  const bool may_be_enough = kMayLeaveOut && settings_.only_if_needed;
  std::int32_t iterations = settings_.iterations;
  has_late_prototypes_ = settings_.late_prototypes;
  if (head != nullptr && (head->chooses || may_be_enough || SavesPass())) {
    const Status solved = head->update(head);
    if (solved != Status::kOk || (may_be_enough && head->is_enough)) return solved;
    if (!head->answers) {
      iterations = head->prototype_iterations;
      has_late_prototypes_ = head->late_prototypes;
    }
  }
  const Status selected = must_select_ ? Select(Budget{}) : Status::kOk;
  if (selected != Status::kOk) return selected;
  for (std::int32_t i = 0; i < iterations; ++i) {
    float loss = 0.0f;
    const Status status = Step(&loss);
    if (status != Status::kOk) return status;
    if (progress != nullptr && !progress(progress_context, iteration_ - 1, loss)) break;
    if (kMayLeaveOut && loss < settings_.stop_loss) break;
  }
  return UpdatePrototypes();
}

bool Trainer::CanPredict() const {
  if (tables_->head != Head::kPrototypes) return true;
  return has_prototypes_ && (has_original_prototypes_ || buffers_.original_prototypes == nullptr);
}

// Logits of the features in Buffers::features, with the bound weights.
Status Trainer::Logits(const float* prototypes, float* logits) {
  const bool has_prototypes = tables_->head == Head::kPrototypes;
  const std::int8_t* outputs[kMaxOutputs];
  const Status status = Embed(buffers_.features, has_prototypes ? buffers_.embedding : logits, outputs);
  if (status != Status::kOk || !has_prototypes) return status;
  CosineLogits(logits, buffers_.embedding, prototypes, settings_.logit_scale, settings_.num_classes, buffers_.dimension);
  return Status::kOk;
}

// With `average`, the trainable part runs once more, with the original weights.
Status Trainer::Answer() {
  Status status = Logits(buffers_.prototypes, buffers_.logits);
  if (status != Status::kOk || buffers_.original_prototypes == nullptr) return status;
  status = BindWeights(true) ? Logits(buffers_.original_prototypes, buffers_.original_logits) : Status::kModelFailed;
  if (!BindWeights(false)) status = Status::kModelFailed;
  AverageLogits(buffers_.logits, buffers_.original_logits, settings_.average, settings_.num_classes);
  return status;
}

Status Trainer::Predict(const std::int8_t* image, float* logits, std::int32_t* label) {
  if (!CanPredict()) return Status::kNotTrained;
  if (!RunFrozen(image, buffers_.features)) return Status::kModelFailed;
  SecondHead* const second = buffers_.second_head;
  const Status status = second != nullptr && second->answers ? second->predict(second) : Answer();
  if (status != Status::kOk) return status;
  if (logits != nullptr) std::memcpy(logits, buffers_.logits, static_cast<std::size_t>(settings_.num_classes) * sizeof(float));
  if (label == nullptr) return Status::kOk;
  *label = ArgMax(buffers_.logits, settings_.num_classes);
  if (second != nullptr && second->is_unknown) *label = kNone;
  return Status::kOk;
}

void Trainer::Revert() {
  for (std::int32_t t = 0; t < tables_->num_trained; ++t) CopyFromFlash(TrainedAt(*tables_, buffers_, t));
  const std::size_t num_states = OptimizerFloats(settings_.optimizer, buffers_.num_weights, buffers_.num_runs);
  std::memset(buffers_.optimizer, 0, num_states * sizeof(float));
  adam_correction_ = AdamCorrection{};
  iteration_ = 0;
  optimizer_step_ = 0;
  ForgetHead();
  ForgetOriginals();
  original_weights_ = true;
  must_select_ = HasCandidates();
}

}  // namespace tinytrain
