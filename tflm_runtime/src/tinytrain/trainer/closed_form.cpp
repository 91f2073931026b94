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

std::size_t ScaleBytes(std::int32_t num_classes) {
  return RoundUp(static_cast<std::size_t>(num_classes + 1) * sizeof(std::int32_t));
}

// Values of one solution, each row of `stride` bytes.
std::size_t ValueBytes(std::int32_t num_classes, std::size_t stride) {
  return static_cast<std::size_t>(num_classes + 1) * stride;
}

// Writes a row to flash, in blocks. An earlier row erased the page that begins earlier.
Status WriteRow(const Flash& flash, std::size_t begin, const std::int8_t* row, std::size_t elements) {
  alignas(16) std::uint8_t block[kFlashBlockBytes];
  Status status = ErasePages(flash, begin, begin + elements);
  for (std::size_t at = 0; at < elements && status == Status::kOk; at += kFlashBlockBytes) {
    const std::size_t count = elements - at < kFlashBlockBytes ? elements - at : kFlashBlockBytes;
    std::memset(block, 0, kFlashBlockBytes);
    std::memcpy(block, row + at, count);
    status = WriteBlock(flash, begin + at, block);
  }
  return status;
}

std::size_t RecordBytes(const char* name, std::int32_t num_classes, std::int32_t elements) {
  const auto num_channels = static_cast<std::size_t>(num_classes) + 1;
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
  const std::size_t values = RoundUp(ValueBytes(settings.num_classes, elements));
  const std::size_t work =
      RidgeWorkBytes(settings.max_samples, row.count, settings.num_classes) + (samples_in_flash ? values : 0);
  const std::size_t predicting = parts.features + RoundUp(elements);
  ClosedFormBytes bytes{};
  bytes.state = (ScaleBytes(settings.num_classes) + (samples_in_flash ? 0 : values)) * (settings.average > 0.0f ? 2 : 1);
  bytes.scratch = Largest(predicting, work + RoundUp(elements)) + parts.head;
  bytes.scratch_rows = Largest(predicting, work + RoundUp(num_rows * elements)) + parts.head;
  bytes.flash_weights = samples_in_flash ? ValueBytes(settings.num_classes, block) : 0;
  bytes.flash_rows = samples_in_flash ? num_rows * block : 0;
  return bytes;
}

Status ClosedForm::Init(Trainer* trainer, const Maps& maps, std::uint8_t* memory, std::size_t memory_bytes) {
  const Tables& tables = *trainer->exported_;
  if (!MapsAreValid(tables, maps)) return Status::kInvalidTables;
  const Flash& flash = trainer->sample_flash_;
  const ClosedFormBytes required = RequiredBytes(tables, trainer->settings_, maps, flash.data != nullptr);
  if (memory == nullptr || memory_bytes < required.state) return Status::kArenaTooSmall;
  if (reinterpret_cast<std::uintptr_t>(memory) % kArenaAlignment != 0) return Status::kArenaMisaligned;
  in_flash_ = flash.data != nullptr;
  rows_in_flash_ = trainer->scratch_.bytes < required.scratch_rows;
  if (rows_in_flash_ && (!in_flash_ || trainer->scratch_.bytes < required.scratch)) return Status::kArenaTooSmall;

  trainer_ = trainer;
  num_maps_ = maps.num_maps;
  maps_ = maps.tensors;
  memory_ = memory;
  MeasureRow(tables, maps, sizes_);
  const std::int32_t elements = row_elements();
  rows_ = {nullptr, static_cast<std::size_t>(elements), 0};
  if (in_flash_) {
    const std::size_t begin = HeadOffset(false) + (averages() ? 2 : 1) * RoundUpTo(flash.page_bytes, required.flash_weights);
    if (flash.bytes < begin + (rows_in_flash_ ? required.flash_rows : 0)) return Status::kFlashUnfit;
    const void* mapped = flash.data + begin;
    if (rows_in_flash_) rows_ = {static_cast<const std::int8_t*>(mapped), RoundUpTo(kFlashBlockBytes, rows_.stride), 0};
  }
  answers = is_enough = false;
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

// Where the values of a solution begin in flash.
std::size_t ClosedForm::HeadOffset(bool original) const {
  const Flash& flash = trainer_->sample_flash_;
  const std::size_t stride = RoundUpTo(kFlashBlockBytes, static_cast<std::size_t>(row_elements()));
  const std::size_t begin = RoundUpTo(flash.page_bytes, FlashSamplesBytes(*trainer_->exported_, trainer_->settings_));
  return begin + (original ? RoundUpTo(flash.page_bytes, ValueBytes(num_classes(), stride)) : 0);
}

// The scales of both solutions come first in `memory`, then the values, if they are there.
std::int32_t* ClosedForm::Scales(bool original) const {
  return static_cast<std::int32_t*>(static_cast<void*>(memory_ + (original ? ScaleBytes(num_classes()) : 0)));
}

// A solution is written to its place in RAM. One for flash is first written behind the equations.
RidgeSpace ClosedForm::Space(bool original) const {
  const auto elements = static_cast<std::size_t>(row_elements());
  const TrainingSettings& settings = trainer_->settings_;
  const std::size_t one = RoundUp(ValueBytes(num_classes(), elements)),
                    scales = ScaleBytes(num_classes()) * (averages() ? 2 : 1);
  std::uint8_t* const place = in_flash_
                                  ? trainer_->scratch_.data + RidgeWorkBytes(settings.max_samples, num_maps_ + 1, num_classes())
                                  : memory_ + scales + (original ? one : 0);
  return {static_cast<std::int8_t*>(static_cast<void*>(place)), Scales(original)};
}

RidgeWeights ClosedForm::weights(bool original) const {
  const auto elements = static_cast<std::size_t>(row_elements());
  if (!in_flash_) return {Space(original).values, elements, Scales(original)};
  const void* const mapped = trainer_->sample_flash_.data + HeadOffset(original);
  return {static_cast<const std::int8_t*>(mapped), RoundUpTo(kFlashBlockBytes, elements), Scales(original)};
}

// Puts values, which lie without gaps, where weights(original) has them. Flash that holds them is not written again.
Status ClosedForm::KeepValues(bool original, const std::int8_t* values) {
  const RidgeWeights kept = weights(original);
  const auto elements = static_cast<std::size_t>(row_elements());
  if (!in_flash_) {
    std::memmove(Space(original).values, values, ValueBytes(num_classes(), elements));
    return Status::kOk;
  }
  bool is_there = true;
  for (std::int32_t c = 0; c <= num_classes(); ++c) {
    const auto row = static_cast<std::size_t>(c);
    is_there = is_there && std::memcmp(kept.values + row * kept.stride, values + row * elements, elements) == 0;
  }
  Status status = Status::kOk;
  for (std::int32_t c = 0; c <= num_classes() && !is_there && status == Status::kOk; ++c) {
    const auto row = static_cast<std::size_t>(c);
    status = WriteRow(trainer_->sample_flash_, HeadOffset(original) + row * kept.stride, values + row * elements, elements);
  }
  return status;
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

// Rows follow the equations in the scratch, and the values on their way to flash. In flash, each goes through one buffer there.
Status ClosedForm::StoreRow(std::int32_t sample) {
  const auto elements = static_cast<std::size_t>(row_elements());
  const RidgeSpace space = Space(false);
  std::int8_t* first = space.values + RoundUp(ValueBytes(num_classes(), elements));
  if (!in_flash_) {
    const std::size_t work = RidgeWorkBytes(trainer_->settings_.max_samples, num_maps_ + 1, num_classes());
    first = static_cast<std::int8_t*>(static_cast<void*>(trainer_->scratch_.data + work));
  }
  const std::size_t at = static_cast<std::size_t>(sample) * rows_.stride;
  if (!rows_in_flash_) {
    rows_.first = first;
    return MakeRow(trainer_->StoredSample(sample, 0), first + at);
  }
  const Status status = MakeRow(trainer_->StoredSample(sample, 0), first);
  if (status != Status::kOk) return status;
  const Flash& flash = trainer_->sample_flash_;
  const void* mapped = rows_.first;
  const auto begin = static_cast<std::size_t>(static_cast<const std::uint8_t*>(mapped) - flash.data);
  return WriteRow(flash, begin + at, first, elements);
}

void ClosedForm::CountRight(const float* leave_one_out) {
  num_right_ = 0;
  for (std::int32_t i = 0; i < rows_.count; ++i, leave_one_out += num_classes()) {
    std::int32_t best = 0;
    for (std::int32_t k = 1; k < num_classes(); ++k) best = leave_one_out[k] > leave_one_out[best] ? k : best;
    num_right_ += best == trainer_->buffers_.labels[i] ? 1 : 0;
  }
  is_enough = num_right_ == rows_.count;
}

RidgeWork ClosedForm::Work() const { return CutRidgeWork(trainer_->scratch_.data, rows_.count, num_maps_ + 1, num_classes()); }

// Both heads with the bound weights; the prototypes are means of the rows' last parts.
Status ClosedForm::SolveWith(bool original) {
  Trainer& t = *trainer_;
  for (std::int32_t s = 0; s < t.num_samples_; ++s) {
    const Status status = StoreRow(s);
    if (status != Status::kOk) return status;
  }
  rows_.count = t.num_samples_;
  const RidgeSpace space = Space(original);
  SolveRidge(rows_, parts(), t.buffers_.labels, num_classes(), Work(), space);
  const Status kept = in_flash_ ? KeepValues(original, space.values) : Status::kOk;
  if (kept != Status::kOk) return kept;

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
Status ClosedForm::CopyToOriginal() {
  const Buffers& b = trainer_->buffers_;
  const auto num_values = static_cast<std::size_t>(num_classes()) * static_cast<std::size_t>(b.dimension);
  std::memcpy(b.original_prototypes, b.prototypes, num_values * sizeof(float));
  std::memcpy(Scales(true), Scales(false), ScaleBytes(num_classes()));
  return KeepValues(true, Space(false).values);
}

Status ClosedForm::Solve(const float** leave_one_out) {
  Trainer& t = *trainer_;
  if (!t.ClaimScratch()) return Status::kModelFailed;
  Status status = t.CheckSamples();
  if (status != Status::kOk) return status;
  t.ForgetHead();
  t.ForgetOriginals();
  if (averages() && !t.original_weights_) {  // first, so that the leave-one-out scores are the adapted weights'
    status = t.BindWeights(true) ? SolveWith(true) : Status::kModelFailed;
    if (!t.BindWeights(false)) status = Status::kModelFailed;
  }
  if (status == Status::kOk) status = SolveWith(false);
  if (status == Status::kOk && averages() && t.original_weights_) status = CopyToOriginal();
  if (status != Status::kOk) return status;
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
  const auto num_channels = static_cast<std::uint32_t>(num_classes() + 1),
             elements = static_cast<std::uint32_t>(row_elements());
  writer->RecordHead(name, NameBytes(name), kInt8Values, kHasBias, elements, num_channels);
  for (std::uint32_t c = 0; c < num_channels; ++c) writer->U16(static_cast<std::uint16_t>(c));
  for (std::uint32_t c = 0; c < num_channels; ++c) writer->Bytes(weights.values + c * weights.stride, elements);
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
  std::int32_t* const scales = head->Scales(is_original);
  for (std::uint32_t c = 0; c < record.num_channels; ++c) scales[c] = static_cast<std::int32_t>(record.Word(record.biases, c));
  const void* const values = record.values;
  const Status kept = head->KeepValues(is_original, static_cast<const std::int8_t*>(values));
  if (kept != Status::kOk) return kept;
  head->answers = is_original || !head->averages();  // "ridge" stands before "original_ridge"
  return Status::kOk;
}

}  // namespace tinytrain
