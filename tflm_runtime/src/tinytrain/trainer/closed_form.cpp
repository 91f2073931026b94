#include "tinytrain/numerics/strict_float.h"

#include "tinytrain_closed_form.h"

#include <cstring>

#include "tinytrain/delta/format.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain/trainer/head.h"
#include "tinytrain_delta.h"

namespace tinytrain {
namespace {

std::size_t RoundUp(std::size_t bytes) { return RoundUpTo(kArenaAlignment, bytes); }

bool MapIsValid(const Tables& tables, std::int32_t map) {
  if (map < 1 || map >= tables.num_tensors || tables.tensors[map].kept < 0) return false;
  return PooledElements(tables.tensors[map]) <= kMaxPartElements;
}

bool IsReserved(const char* name) { return SameName(name, kRidgeName) || SameName(name, kOriginalRidgeName); }

bool MapsAreValid(const Tables& tables, const Maps& maps) {
  if (tables.head != Head::kPrototypes || maps.num_maps < 0 || maps.num_maps > kMaxMaps) return false;
  if (NumElements(tables.tensors[tables.num_tensors - 1]) > kMaxPartElements) return false;
  for (std::int32_t m = 0; m < maps.num_maps; ++m) {
    if (!MapIsValid(tables, maps.tensors[m])) return false;
  }
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    if (IsReserved(tables.trained[t].name)) return false;
  }
  return true;
}

void MeasureRow(const Tables& tables, const Maps& maps, std::int32_t* sizes) {
  for (std::int32_t m = 0; m < maps.num_maps; ++m) sizes[m] = PooledElements(tables.tensors[maps.tensors[m]]);
  sizes[maps.num_maps] = NumElements(tables.tensors[tables.num_tensors - 1]);
}

// Bytes of one solution: values, then scales.
std::size_t ValueBytes(std::int32_t num_classes, std::int32_t elements) {
  return RoundUp(static_cast<std::size_t>(num_classes + 1) * static_cast<std::size_t>(elements));
}
std::size_t WeightBytes(std::int32_t num_classes, std::int32_t elements) {
  return ValueBytes(num_classes, elements) + RoundUp(static_cast<std::size_t>(num_classes + 1) * sizeof(std::int32_t));
}

std::size_t RecordBytes(const char* name, std::int32_t num_classes, std::int32_t elements) {
  const auto num_channels = static_cast<std::size_t>(num_classes + 1);
  return 1 + NameBytes(name) + 8 + num_channels * (2 + static_cast<std::size_t>(elements) + sizeof(std::int32_t));
}

std::size_t Largest(std::size_t a, std::size_t b) { return a > b ? a : b; }

}  // namespace

ClosedFormBytes ClosedForm::RequiredBytes(const Tables& tables, const TrainingSettings& settings, const Maps& maps,
                                          bool samples_in_flash) {
  MemoryParts parts;
  if (Trainer::RequiredBytes(tables, settings, &parts, samples_in_flash) == 0 || !MapsAreValid(tables, maps)) return {};
  std::int32_t sizes[kMaxMaps + 1];
  MeasureRow(tables, maps, sizes);
  const RowParts row = {sizes, maps.num_maps + 1};
  const auto elements = static_cast<std::size_t>(row.Total()), num_rows = static_cast<std::size_t>(settings.max_samples);
  const std::size_t block = RoundUpTo(kFlashBlockBytes, elements);
  const std::size_t work = RidgeWorkBytes(settings.max_samples, row.count, settings.num_classes);
  const std::size_t predicting = parts.features + RoundUp(elements);
  return {WeightBytes(settings.num_classes, row.Total()) * (settings.average > 0.0f ? 2 : 1),
          Largest(predicting, work + block) + parts.head, Largest(predicting, work + RoundUp(num_rows * elements)) + parts.head,
          num_rows * block};
}

Status ClosedForm::Init(Trainer* trainer, const Maps& maps, std::uint8_t* memory, std::size_t memory_bytes) {
  const Tables& tables = *trainer->exported_;
  if (!MapsAreValid(tables, maps)) return Status::kInvalidTables;
  const Flash& flash = trainer->sample_flash_;
  const ClosedFormBytes required = RequiredBytes(tables, trainer->settings_, maps, flash.data != nullptr);
  if (memory == nullptr || memory_bytes < required.state) return Status::kArenaTooSmall;
  if (reinterpret_cast<std::uintptr_t>(memory) % kArenaAlignment != 0) return Status::kArenaMisaligned;
  rows_in_flash_ = trainer->scratch_.bytes < required.scratch_rows;
  if (rows_in_flash_ && (flash.data == nullptr || trainer->scratch_.bytes < required.scratch)) return Status::kArenaTooSmall;

  trainer_ = trainer;
  num_maps_ = maps.num_maps;
  maps_ = maps.tensors;
  memory_ = memory;
  MeasureRow(tables, maps, sizes_);
  const std::int32_t elements = row_elements();
  rows_ = {nullptr, static_cast<std::size_t>(elements), 0};
  if (rows_in_flash_) {
    const std::size_t begin = RoundUpTo(flash.page_bytes, FlashSamplesBytes(tables, trainer->settings_));
    if (flash.bytes < begin + required.flash_rows) return Status::kFlashUnfit;
    const void* mapped = flash.data + begin;
    rows_ = {static_cast<const std::int8_t*>(mapped), RoundUpTo(kFlashBlockBytes, rows_.stride), 0};
  }
  answers = false;
  num_right_ = kNone;
  num_records = averages() ? 2 : 1;
  record_bytes = RecordBytes(kRidgeName, num_classes(), elements);
  if (averages()) record_bytes += RecordBytes(kOriginalRidgeName, num_classes(), elements);
  update = &UpdateHead;
  predict = &PredictHead;
  put = &PutHead;
  take = &TakeRecord;
  obey = &Obey;
  trainer->buffers_.second_head = this;
  return Status::kOk;
}

RidgeWeights ClosedForm::weights(bool original) const {
  const std::int32_t elements = row_elements();
  std::uint8_t* const values = memory_ + (original ? WeightBytes(num_classes(), elements) : 0);
  return {static_cast<std::int8_t*>(static_cast<void*>(values)),
          static_cast<std::int32_t*>(static_cast<void*>(values + ValueBytes(num_classes(), elements)))};
}

// The row of features, with the bound weights.
Status ClosedForm::MakeRow(const std::int8_t* features, std::int8_t* row) {
  const std::int8_t* outputs[kMaxOutputs] = {};
  const Tables& tables = *trainer_->tables_;
  if (!trainer_->model_.run_trainable(trainer_->model_.context, features, outputs)) return Status::kModelFailed;
  for (std::int32_t m = 0; m < num_maps_; ++m) {
    const Tensor& map = tables.tensors[maps_[m]];
    PoolMap(row, outputs[map.kept], map);
    row += sizes_[m];
  }
  const std::int8_t* const embedding = outputs[tables.head_output];
  for (std::int32_t d = 0; d < sizes_[num_maps_]; ++d) row[d] = AtLeast127(embedding[d]);
  return Status::kOk;
}

// Rows follow the equations in the scratch; in flash each goes through one block buffer there.
Status ClosedForm::StoreRow(std::int32_t sample) {
  const TrainingSettings& settings = trainer_->settings_;
  std::uint8_t* const room = trainer_->scratch_.data + RidgeWorkBytes(settings.max_samples, num_maps_ + 1, settings.num_classes);
  auto* const first = static_cast<std::int8_t*>(static_cast<void*>(room));
  const std::size_t at = static_cast<std::size_t>(sample) * rows_.stride;
  if (!rows_in_flash_) {
    rows_.first = first;
    return MakeRow(trainer_->StoredSample(sample, 0), first + at);
  }
  Status status = MakeRow(trainer_->StoredSample(sample, 0), first);
  const auto elements = static_cast<std::size_t>(row_elements());
  std::memset(room + elements, 0, rows_.stride - elements);
  const Flash& flash = trainer_->sample_flash_;
  const void* mapped = rows_.first;
  const std::size_t begin = static_cast<std::size_t>(static_cast<const std::uint8_t*>(mapped) - flash.data) + at;
  if (status == Status::kOk) status = ErasePages(flash, begin, begin + rows_.stride);
  for (std::size_t b = 0; b < rows_.stride && status == Status::kOk; b += kFlashBlockBytes) {
    status = WriteBlock(flash, begin + b, room + b);
  }
  return status;
}

void ClosedForm::CountRight(const float* leave_one_out) {
  num_right_ = 0;
  for (std::int32_t i = 0; i < rows_.count; ++i, leave_one_out += num_classes()) {
    std::int32_t best = 0;
    for (std::int32_t k = 1; k < num_classes(); ++k) best = leave_one_out[k] > leave_one_out[best] ? k : best;
    num_right_ += best == trainer_->buffers_.labels[i] ? 1 : 0;
  }
}

RidgeWork ClosedForm::Work() const {
  return CutRidgeWork(trainer_->scratch_.data, rows_.count, num_maps_ + 1, num_classes());
}

// Both heads with the bound weights; the prototypes are means of the rows' last parts.
Status ClosedForm::SolveWith(bool original) {
  Trainer& t = *trainer_;
  for (std::int32_t s = 0; s < t.num_samples_; ++s) {
    const Status status = StoreRow(s);
    if (status != Status::kOk) return status;
  }
  rows_.count = t.num_samples_;
  SolveRidge(rows_, parts(), t.buffers_.labels, num_classes(), Work(), weights(original));

  const std::int32_t dimension = t.buffers_.dimension, before = row_elements() - dimension;
  const Tensor& embedding = t.tables_->tensors[t.tables_->num_tensors - 1];
  float* const prototypes = original ? t.buffers_.original_prototypes : t.buffers_.prototypes;
  for (std::int32_t i = 0; i < num_classes() * dimension; ++i) prototypes[i] = 0.0f;
  for (std::int32_t s = 0; s < rows_.count; ++s) {
    AddEmbedding(prototypes + t.buffers_.labels[s] * dimension, rows_.At(s) + before, embedding.zero_point, dimension);
  }
  for (std::int32_t k = 0; k < num_classes(); ++k) {
    MeanOfSums(prototypes + k * dimension, embedding.scale, t.buffers_.counts[k], dimension);
  }
  return Status::kOk;
}

// As long as nothing is trained, the adapted and the original weights are the same.
void ClosedForm::CopyToOriginal() {
  const Buffers& b = trainer_->buffers_;
  const auto num_values = static_cast<std::size_t>(num_classes()) * static_cast<std::size_t>(b.dimension);
  std::memcpy(b.original_prototypes, b.prototypes, num_values * sizeof(float));
  std::memcpy(weights(true).values, weights(false).values, WeightBytes(num_classes(), row_elements()));
}

Status ClosedForm::Solve(const float** leave_one_out) {
  Trainer& t = *trainer_;
  if (!t.ClaimScratch()) return Status::kModelFailed;
  Status status = t.CheckSamples();
  if (status != Status::kOk) return status;
  t.ForgetHead();
  t.has_original_prototypes_ = false;
  if (averages() && !t.original_weights_) {  // first, so that the leave-one-out scores are the adapted weights'
    status = t.BindWeights(true) ? SolveWith(true) : Status::kModelFailed;
    if (!t.BindWeights(false)) status = Status::kModelFailed;
  }
  if (status == Status::kOk) status = SolveWith(false);
  if (status != Status::kOk) return status;
  if (averages() && t.original_weights_) CopyToOriginal();
  answers = t.has_prototypes_ = true;
  t.has_original_prototypes_ = averages();
  CountRight(Work().leave_one_out);
  if (leave_one_out != nullptr) *leave_one_out = Work().leave_one_out;
  return Status::kOk;
}

Status ClosedForm::UpdateHead(SecondHead* self) { return static_cast<ClosedForm*>(self)->Solve(); }

Status ClosedForm::Scores(bool original, float* logits) {
  const Trainer& t = *trainer_;
  void* const after_features = t.scratch_.data + t.memory_parts().features;
  auto* const row = static_cast<std::int8_t*>(after_features);
  const Status status = MakeRow(t.buffers_.features, row);
  if (status != Status::kOk) return status;
  RidgeScores(logits, row, parts(), num_classes(), weights(original));
  for (std::int32_t k = 0; k < num_classes(); ++k) logits[k] *= t.settings_.logit_scale;
  return Status::kOk;
}

Status ClosedForm::PredictHead(SecondHead* self) {
  auto* const head = static_cast<ClosedForm*>(self);
  Trainer& t = *head->trainer_;
  const Status adapted = head->Scores(false, t.buffers_.logits);
  if (adapted != Status::kOk || !head->averages() || t.original_weights_) return adapted;
  Status status = t.BindWeights(true) ? head->Scores(true, t.buffers_.original_logits) : Status::kModelFailed;
  if (!t.BindWeights(false)) status = Status::kModelFailed;
  AverageLogits(t.buffers_.logits, t.buffers_.original_logits, t.settings_.average, head->num_classes());
  return status;
}

void ClosedForm::PutWeights(const char* name, const RidgeWeights& weights, DeltaWriter* writer) const {
  const auto num_channels = static_cast<std::uint32_t>(num_classes() + 1), elements = static_cast<std::uint32_t>(row_elements());
  writer->RecordHead(name, NameBytes(name), kInt8Values, kHasBias, elements, num_channels);
  for (std::uint32_t c = 0; c < num_channels; ++c) writer->U16(static_cast<std::uint16_t>(c));
  writer->Bytes(weights.values, num_channels * elements);
  for (std::uint32_t c = 0; c < num_channels; ++c) writer->U32(static_cast<std::uint32_t>(weights.scales[c]));
}

void ClosedForm::PutHead(const SecondHead* self, DeltaWriter* writer) {
  const auto* const head = static_cast<const ClosedForm*>(self);
  head->PutWeights(kRidgeName, head->weights(false), writer);
  if (head->averages()) head->PutWeights(kOriginalRidgeName, head->weights(true), writer);
}

// A class's scale is positive; the centre's is 1.
bool ClosedForm::Fits(const Record& record) const {
  const auto num_channels = static_cast<std::uint32_t>(num_classes() + 1);
  if (record.type != kInt8Values || !record.has_bias() || record.num_channels != num_channels) return false;
  if (record.num_values != static_cast<std::uint32_t>(row_elements())) return false;
  if (record.Channel(num_channels - 1) != num_classes()) return false;  // they ascend, so they are 0, 1, 2, ...
  for (std::uint32_t c = 0; c < num_channels; ++c) {
    const std::uint32_t scale = record.Word(record.biases, c);
    if (scale == 0 || scale > 0x7fffffffu) return false;
  }
  return record.Word(record.biases, num_channels - 1) == kRidgeScaleOne;
}

Status ClosedForm::TakeRecord(SecondHead* self, const Record& record, bool apply) {
  auto* const head = static_cast<ClosedForm*>(self);
  const bool is_original = IsNamed(record, kOriginalRidgeName);
  if ((!is_original && !IsNamed(record, kRidgeName)) || !head->Fits(record)) return Status::kDeltaForeign;
  if (!apply || (is_original && !head->averages())) return Status::kOk;
  const RidgeWeights weights = head->weights(is_original);
  std::memcpy(weights.values, record.values, static_cast<std::size_t>(record.num_channels) * record.num_values);
  for (std::uint32_t c = 0; c < record.num_channels; ++c) {
    weights.scales[c] = static_cast<std::int32_t>(record.Word(record.biases, c));
  }
  head->answers = is_original || !head->averages();  // "ridge" stands before "original_ridge"
  return Status::kOk;
}

}  // namespace tinytrain
