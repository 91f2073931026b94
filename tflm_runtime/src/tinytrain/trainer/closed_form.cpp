#include "tinytrain/numerics/strict_float.h"

#include "tinytrain_closed_form.h"

#include <cstring>

#include "tinytrain/memory/memory.h"
#include "tinytrain/trainer/closed_form_sizes.h"
#include "tinytrain/trainer/head.h"
#include "tinytrain_delta.h"

namespace tinytrain {
namespace {

bool MapIsValid(const Tables& tables, std::int32_t map) {
  if (map < 0 || map >= tables.num_tensors || tables.tensors[map].kept == kNone) return false;
  return PooledElements(tables.tensors[map]) <= kMaxPartElements;
}

// A layer of such a name would be taken for a record of the head.
bool IsReserved(const char* name, const Maps& maps) {
  if (SameName(name, kRidgeName) || SameName(name, kOriginalRidgeName)) return true;
  return maps.num_bounds > 0 && (SameName(name, kKnownName) || SameName(name, kThresholdName));
}

// Original weights, which judge, are kept for an average alone. The labels of samples are below kForgotten. Prototypes judge
// not.
bool BoundsAreValid(const TrainingSettings& settings, const Maps& maps) {
  if (maps.num_bounds == 0) return true;
  if (maps.choice != HeadChoice::kClosedForm) return false;
  return maps.num_bounds > 0 && maps.bounds != nullptr && settings.average > 0.0f && settings.num_classes < kForgotten;
}

bool MapsAreValid(const Tables& tables, const Maps& maps) {
  if (maps.choice > HeadChoice::kIfBetter || maps.prototype_iterations < 0) return false;
  if (tables.head != Head::kPrototypes || maps.num_maps < 0 || maps.num_maps > kMaxMaps) return false;
  if (NumElements(tables.tensors[tables.num_tensors - 1]) > kMaxPartElements) return false;
  for (std::int32_t m = 0; m < maps.num_maps; ++m) {
    if (!MapIsValid(tables, maps.tensors[m])) return false;
  }
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    if (IsReserved(tables.trained[t].name, maps)) return false;
  }
  return true;
}

void MeasureRow(const Tables& tables, const Maps& maps, std::int32_t* sizes, std::int32_t* zero_points) {
  const Tensor& embedding = tables.tensors[tables.num_tensors - 1];
  for (std::int32_t m = 0; m < maps.num_maps; ++m) {
    sizes[m] = PooledElements(tables.tensors[maps.tensors[m]]);
    zero_points[m] = tables.tensors[maps.tensors[m]].zero_point;
  }
  sizes[maps.num_maps] = NumElements(embedding);
  zero_points[maps.num_maps] = embedding.zero_point;
}

std::size_t Largest(std::size_t a, std::size_t b) { return a > b ? a : b; }

}  // namespace

ClosedFormBytes ClosedForm::RequiredBytes(const Tables& tables, const TrainingSettings& settings, const Maps& maps,
                                          bool samples_in_flash) {
  MemoryParts parts;
  if (Trainer::RequiredBytes(tables, settings, &parts, samples_in_flash) == 0 || !MapsAreValid(tables, maps)) return {};
  if (!BoundsAreValid(settings, maps)) return {};
  std::int32_t sizes[kMaxMaps + 1], zero_points[kMaxMaps + 1];
  MeasureRow(tables, maps, sizes, zero_points);
  const RowParts row = {sizes, zero_points, maps.num_maps + 1};
  const bool rejects = maps.num_bounds > 0;
  const auto elements = static_cast<std::size_t>(row.Total()), num_rows = static_cast<std::size_t>(settings.max_samples);
  const std::size_t block = RoundUpTo(kFlashBlockBytes, elements);
  const std::size_t values = RoundUp(ValueBytes(settings.num_classes, elements));
  const std::size_t num_solutions = 1u + (settings.average > 0.0f ? 1u : 0u) + (rejects ? 1u : 0u);
  const std::size_t work = RidgeWorkBytes(settings.max_samples, row.count, settings.num_classes + (rejects ? 1 : 0)) +
                           (samples_in_flash ? values : 0);
  const std::size_t predicting = parts.features + RoundUp(elements);
  ClosedFormBytes bytes{};
  bytes.state = (ScaleBytes(settings.num_classes) + (samples_in_flash ? 0 : values)) * num_solutions;
  bytes.scratch = Largest(predicting, work + RoundUp(elements)) + parts.head;
  bytes.scratch_rows = Largest(predicting, work + RoundUp(num_rows * elements)) + parts.head;
  bytes.flash_weights = samples_in_flash ? ValueBytes(settings.num_classes, block) : 0;
  bytes.flash_rows = samples_in_flash ? num_rows * block : 0;
  return bytes;
}

Status ClosedForm::Init(Trainer* trainer, const Maps& maps, std::uint8_t* memory, std::size_t memory_bytes) {
  const Tables& tables = *trainer->exported_;
  if (!MapsAreValid(tables, maps)) return Status::kInvalidTables;
  if (!BoundsAreValid(trainer->settings_, maps)) return Status::kInvalidSettings;
  const Flash& flash = trainer->sample_flash_;
  const ClosedFormBytes required = RequiredBytes(tables, trainer->settings_, maps, flash.data != nullptr);
  if (memory == nullptr || memory_bytes < required.state) return Status::kArenaTooSmall;
  if (reinterpret_cast<std::uintptr_t>(memory) % kArenaAlignment != 0) return Status::kArenaMisaligned;
  in_flash_ = flash.data != nullptr;
  rows_in_flash_ = trainer->scratch_.bytes < required.scratch_rows;
  if (rows_in_flash_ && (!in_flash_ || trainer->scratch_.bytes < required.scratch)) return Status::kArenaTooSmall;

  trainer_ = trainer;
  maps_ = &maps;
  memory_ = memory;
  MeasureRow(tables, maps, sizes_, zero_points_);
  rows_ = {nullptr, static_cast<std::size_t>(row_elements()), 0, nullptr};
  if (in_flash_) {
    const std::size_t begin =
        HeadOffset(Solution::kAdapted) + num_solutions() * RoundUpTo(flash.page_bytes, required.flash_weights);
    if (flash.bytes < begin + (rows_in_flash_ ? required.flash_rows : 0)) return Status::kFlashUnfit;
    const void* mapped = flash.data + begin;
    if (rows_in_flash_)
      rows_ = {static_cast<const std::int8_t*>(mapped), RoundUpTo(kFlashBlockBytes, rows_.stride), 0, nullptr};
  }
  answers = is_enough = is_unknown = has_known_ = knows_original = false;
  holds_ = true;
  chooses = maps.choice != HeadChoice::kClosedForm;
  const TrainingSettings &settings = trainer->settings_, &exported = tables.training;  // a caller's own hold for both heads
  const bool is_same = settings.iterations == exported.iterations;
  prototype_iterations = is_same ? maps.prototype_iterations : settings.iterations;
  late_prototypes = settings.late_prototypes == exported.late_prototypes ? maps.late_prototypes : settings.late_prototypes;
  num_right_ = kNone;
  num_labels = num_classes() + (rejects() ? 1 : 0);
  threshold_ = kNoThreshold;
  commands = rejects() ? ", TRAIN, SOLVE, FORGET <label>, FAMILIARITY" : ", TRAIN, SOLVE, FORGET <label>";
  CountRecords();
  update = &UpdateHead;
  predict = &PredictHead;
  put = &PutHead;
  take = &TakeRecord;
  obey = &Obey;
  trainer->buffers_.second_head = this;
  return Status::kOk;
}

// The row of features, with the bound weights. `place` is that of a stored sample, or kNone.
Status ClosedForm::MakeRow(const std::int8_t* features, std::int32_t place, std::int8_t* row) {
  const std::int8_t* outputs[kMaxOutputs] = {};
  const Tables& tables = *trainer_->tables_;
  if (!trainer_->model_.run_trainable(trainer_->model_.context, features, outputs)) return Status::kModelFailed;
  for (std::int32_t m = 0; m < maps_->num_maps; ++m) {
    const std::int32_t tensor = maps_->tensors[m];
    const Tensor& map = tables.tensors[tensor];
    PoolMap(row, map.kept == kStoredSample ? features + StoredOffset(tables, tensor) : outputs[map.kept], map);
    row += sizes_[m];
  }
  const std::int8_t* const embedding = outputs[tables.head_output];
  for (std::int32_t d = 0; d < sizes_[maps_->num_maps]; ++d) row[d] = AtLeast127(embedding[d]);
  if (kMayLeaveOut && place != kNone) trainer_->KeepEmbedding(place, embedding);
  return Status::kOk;
}

// Both heads with the bound weights. As long as nothing is trained, the adapted and the original weights are the same.
Status ClosedForm::SolveWith(Solution solution) {
  Trainer& t = *trainer_;
  for (std::int32_t place = 0; place < t.num_samples_; ++place) {
    const Status status = StoreRow(place);
    if (status != Status::kOk) return status;
  }
  const bool is_original = solution == Solution::kOriginal, is_both = !is_original && averages() && t.original_weights_;
  const bool judges = rejects() && (is_original || is_both);
  RidgeTask task;
  RidgeWork work;
  ListRows(&task, &work);
  if (judges) threshold_ = FindThreshold(task, parts(), num_classes(), work, Space(Solution::kKnown), *maps_);
  const RidgeSpace space = Space(solution);
  std::int8_t* const centre = space.values + num_classes() * row_elements();
  MultiplyRows(task, parts(), centre, work);
  LeaveOneOut(task, parts(), work);
  SolveRidge(task, parts(), work);
  space.scales[num_classes()] = kRidgeScaleOne;
  for (std::int32_t k = 0; k < num_classes(); ++k) {
    QuantizeTarget(task, parts(), centre, work, k, space.values + k * row_elements(), &space.scales[k]);
  }
  MeanRows(is_original ? t.buffers_.original_prototypes : t.buffers_.prototypes);
  CountRight(task, work.leave_one_out);
  if (chooses && (is_original || t.original_weights_)) {
    holds_ = Holds(task, work.leave_one_out, is_original ? t.buffers_.original_prototypes : t.buffers_.prototypes);
  }
  Status status = in_flash_ ? KeepValues(solution, space.values) : Status::kOk;
  if (is_both && status == Status::kOk) {
    const auto num_values = static_cast<std::size_t>(num_classes()) * static_cast<std::size_t>(t.buffers_.dimension);
    std::memcpy(t.buffers_.original_prototypes, t.buffers_.prototypes, num_values * sizeof(float));
    std::memcpy(Scales(Solution::kOriginal), space.scales, ScaleBytes(num_classes()));
    status = KeepValues(Solution::kOriginal, space.values);
  }
  return judges && status == Status::kOk ? KeepKnown(task, work, centre) : status;
}

Status ClosedForm::Solve(const float** leave_one_out) {
  Trainer& t = *trainer_;
  if (!t.ClaimScratch()) return Status::kModelFailed;
  Status status = CheckLabels();
  if (status != Status::kOk) return status;
  t.ForgetHead();
  const bool is_known = knows_original && !t.original_weights_;
  if (!is_known) {
    t.ForgetOriginals();
    has_known_ = knows_original = false;
    if (averages() && !t.original_weights_) {  // first, so that the leave-one-out scores are the adapted weights'
      status = t.BindWeights(true) ? SolveWith(Solution::kOriginal) : Status::kModelFailed;
      if (!t.BindWeights(false)) status = Status::kModelFailed;
    }
  }
  if (status == Status::kOk) status = SolveWith(Solution::kAdapted);
  if (status != Status::kOk) return status;
  knows_original = averages() || is_known || t.original_weights_;
  const bool keeps_embeddings = kMayLeaveOut && t.original_weights_ && t.buffers_.embeddings != nullptr;
  t.has_embeddings_ = keeps_embeddings;
  RidgeTask task;
  RidgeWork work;
  ListRows(&task, &work);
  num_targets_ = task.num_targets;
  if (leave_one_out != nullptr) *leave_one_out = work.leave_one_out;
  if (!holds_) {  // the prototypes of a trainer without this head, and not those of rows
    t.originals_are_current_ = t.originals_are_current_ && is_known;
    status = t.UpdateOwnPrototypes();
    t.has_embeddings_ = keeps_embeddings && status == Status::kOk;
    return status;
  }
  answers = t.has_prototypes_ = true;
  t.has_original_prototypes_ = t.originals_are_current_ = averages();
  return Status::kOk;
}

Status ClosedForm::UpdateHead(SecondHead* self) {
  auto* const head = static_cast<ClosedForm*>(self);
  Trainer& t = *head->trainer_;
  if (!head->knows_original) return head->Solve();
  const bool is_current = t.has_prototypes_ && head->answers == head->holds_;  // nothing has changed since
  if (t.original_weights_) return is_current ? Status::kOk : head->Solve();
  return head->holds_ ? head->Solve() : t.UpdateOwnPrototypes();
}

// The row lies after the features.
Status ClosedForm::Scores(Solution solution, float* logits) {
  const Trainer& t = *trainer_;
  void* const after_features = t.scratch_.data + t.memory_parts().features;
  auto* const row = static_cast<std::int8_t*>(after_features);
  const Status status = MakeRow(t.buffers_.features, kNone, row);
  if (status != Status::kOk) return status;
  RidgeScores(logits, row, parts(), num_classes(), weights(solution));
  for (std::int32_t k = 0; k < num_classes(); ++k) logits[k] *= t.settings_.logit_scale;
  return Status::kOk;
}

Status ClosedForm::PredictHead(SecondHead* self) {
  auto* const head = static_cast<ClosedForm*>(self);
  Trainer& t = *head->trainer_;
  Status status = head->Scores(Solution::kAdapted, t.buffers_.logits);
  if (status == Status::kOk && head->averages() && !t.original_weights_) {
    status = t.BindWeights(true) ? head->Scores(Solution::kOriginal, t.buffers_.original_logits) : Status::kModelFailed;
    if (!t.BindWeights(false)) status = Status::kModelFailed;
    AverageLogits(t.buffers_.logits, t.buffers_.original_logits, t.settings_.average, head->num_classes());
  }
  head->is_unknown = false;
  if (status == Status::kOk && head->has_known_) head->Judge();
  return status;
}

}  // namespace tinytrain
