// The closed-form head's records of a delta.
#include "tinytrain/numerics/strict_float.h"

#include <cstring>

#include "tinytrain/delta/format.h"
#include "tinytrain/trainer/closed_form_sizes.h"
#include "tinytrain_closed_form.h"
#include "tinytrain_delta.h"

namespace tinytrain {
namespace {

std::size_t RecordBytes(const char* name, std::size_t num_channels, std::size_t channel_bytes) {
  return 1 + NameBytes(name) + 8 + num_channels * (2 + channel_bytes);
}

// Values of some channels, each with an int32.
bool HasShape(const Record& record, std::int32_t num_channels, std::int32_t num_values) {
  if (record.type != kInt8Values || !record.has_bias() || record.num_channels != static_cast<std::uint32_t>(num_channels)) {
    return false;
  }
  if (record.num_values != static_cast<std::uint32_t>(num_values)) return false;
  return record.Channel(record.num_channels - 1) == num_channels - 1;  // they ascend, so they are 0, 1, 2, ...
}

bool IsZero(const Record& record, std::uint32_t channel) {
  const std::uint8_t* const values = record.values + static_cast<std::size_t>(channel) * record.num_values;
  for (std::uint32_t i = 0; i < record.num_values; ++i) {
    if (values[i] != 0) return false;
  }
  return true;
}

void PutChannels(DeltaWriter* writer, std::uint32_t count) {
  for (std::uint32_t c = 0; c < count; ++c) writer->U16(static_cast<std::uint16_t>(c));
}

}  // namespace

void ClosedForm::CountRecords() {
  const auto rows = static_cast<std::size_t>(num_classes()) + 1;
  const std::size_t row_bytes = static_cast<std::size_t>(row_elements()) + sizeof(std::int32_t);
  num_records = 1;
  record_bytes = RecordBytes(kRidgeName, rows, row_bytes);
  if (averages()) {
    num_records += 1;
    record_bytes += RecordBytes(kOriginalRidgeName, rows, row_bytes);
  }
  if (has_known_) {
    num_records += 2;
    record_bytes += RecordBytes(kKnownName, rows, row_bytes) + RecordBytes(kThresholdName, 1, sizeof(float));
  }
  slot_records = in_flash_ ? 1 : 0;
  slot_bytes = in_flash_ ? RecordBytes(kSamplesName, static_cast<std::size_t>(trainer_->settings_.max_samples), 6) : 0;
}

void ClosedForm::PutWeights(const char* name, const RidgeWeights& weights, DeltaWriter* writer) const {
  const auto num_channels = static_cast<std::uint32_t>(num_classes() + 1),
             elements = static_cast<std::uint32_t>(row_elements());
  writer->RecordHead(name, NameBytes(name), kInt8Values, kHasBias, elements, num_channels);
  PutChannels(writer, num_channels);
  for (std::uint32_t c = 0; c < num_channels; ++c) writer->Bytes(weights.values + c * weights.stride, elements);
  for (std::uint32_t c = 0; c < num_channels; ++c) writer->U32(static_cast<std::uint32_t>(weights.scales[c]));
}

void ClosedForm::PutHead(const SecondHead* self, DeltaWriter* writer, bool in_slot) {
  const auto* const head = static_cast<const ClosedForm*>(self);
  head->PutWeights(kRidgeName, head->weights(Solution::kAdapted), writer);
  if (head->averages()) head->PutWeights(kOriginalRidgeName, head->weights(Solution::kOriginal), writer);
  if (head->has_known_) {
    head->PutWeights(kKnownName, head->weights(Solution::kKnown), writer);
    writer->RecordHead(kThresholdName, NameBytes(kThresholdName), kFloat32Values, 0, 1, 1);
    PutChannels(writer, 1);
    writer->F32(head->threshold_);
  }
  if (in_slot && head->in_flash_) head->PutSamples(writer);
}

// The scale of a class with samples is positive. The centre's is 1.
bool ClosedForm::Fits(Solution solution, const Record& record) const {
  if (!HasShape(record, num_classes() + 1, row_elements())) return false;
  for (std::uint32_t c = 0; c < record.num_channels; ++c) {
    const std::uint32_t scale = record.Word(record.biases, c);
    if (scale > 0x7fffffffu || (scale == 0 && !IsZero(record, c))) return false;
  }
  return solution == Solution::kKnown || record.Word(record.biases, record.num_channels - 1) == kRidgeScaleOne;
}

Status ClosedForm::Take(Solution solution, const Record& record) {
  std::int32_t* const scales = Scales(solution);
  for (std::uint32_t c = 0; c < record.num_channels; ++c) scales[c] = static_cast<std::int32_t>(record.Word(record.biases, c));
  const void* const values = record.values;
  return KeepValues(solution, static_cast<const std::int8_t*>(values));
}

// "ridge" stands before the others.
Status ClosedForm::TakeRecord(SecondHead* self, const Record& record, bool apply) {
  auto* const head = static_cast<ClosedForm*>(self);
  if (IsNamed(record, kSamplesName)) {
    if (!HasShape(record, head->trainer_->settings_.max_samples, 2)) return Status::kDeltaForeign;
    if (apply) head->TakeSamples(record);
    return Status::kOk;
  }
  if (IsNamed(record, kThresholdName)) {
    if (record.type != kFloat32Values || record.num_channels != 1 || record.num_values != 1) return Status::kDeltaForeign;
    if (apply && head->has_known_) head->threshold_ = record.Float(record.values, 0);
    return Status::kOk;
  }
  const bool is_original = IsNamed(record, kOriginalRidgeName), is_known = IsNamed(record, kKnownName);
  const Solution solution = is_known ? Solution::kKnown : is_original ? Solution::kOriginal : Solution::kAdapted;
  if ((solution == Solution::kAdapted && !IsNamed(record, kRidgeName)) || !head->Fits(solution, record)) {
    return Status::kDeltaForeign;
  }
  if (!apply || (is_original && !head->averages()) || (is_known && !head->rejects())) return Status::kOk;
  head->knows_original = false;
  const Status kept = head->Take(solution, record);
  if (kept != Status::kOk) return kept;
  if (!is_known) head->answers = is_original || !head->averages();
  if (solution == Solution::kAdapted) head->threshold_ = kNoThreshold;
  head->has_known_ = is_known;
  head->CountRecords();
  return Status::kOk;
}

}  // namespace tinytrain
