// The trainer's deltas, in RAM and in two slots of flash.
#include "tinytrain/numerics/strict_float.h"

#include "tinytrain.h"

#include "tinytrain_delta.h"

namespace tinytrain {

std::size_t Trainer::DeltaBytes() const { return DeltaSize(*tables_, settings_, buffers_); }

Status Trainer::SaveDelta(std::uint32_t sequence, std::uint8_t* data, std::size_t data_bytes, std::size_t* written) const {
  if (!CanPredict()) return Status::kNotTrained;
  if (DeltaBytes() > data_bytes) return Status::kBufferTooSmall;
  WriteDelta(*tables_, settings_, buffers_, sequence, data);
  if (written != nullptr) *written = DeltaBytes();
  return Status::kOk;
}

Status Trainer::LoadDelta(const std::uint8_t* data, std::size_t data_bytes) {
  PrototypesFound found;
  Status status = ReadDelta(*(HasCandidates() ? exported_ : tables_), settings_, buffers_, data, data_bytes, false, &found);
  if (status == Status::kOk && HasCandidates()) status = AdoptPlan(data);
  if (status != Status::kOk) return status;
  Revert();
  status = ReadDelta(*tables_, settings_, buffers_, data, data_bytes, true, &found);  // fails where flash does
  const bool has_second = buffers_.second_head != nullptr && buffers_.second_head->answers;
  has_prototypes_ = found.adapted || has_second;
  has_original_prototypes_ = found.original || has_second;
  original_weights_ = IsEmptyDelta(data) || tables_->num_trained == 0;
  must_select_ = HasCandidates() && original_weights_;
  return status;
}

bool Trainer::IsAsExported() const { return original_weights_ && !has_prototypes_ && !has_original_prototypes_; }

// Tables and buffers of what a slot is to hold: no records if all is as exported.
void Trainer::ListRecords(Tables* tables, Buffers* buffers) const {
  *tables = *tables_;
  *buffers = buffers_;
  buffers->in_slot = true;
  if (!IsAsExported()) return;
  tables->num_trained = 0;
  buffers->prototypes = buffers->original_prototypes = nullptr;
  buffers->second_head = nullptr;
}

Status Trainer::SaveDelta(const Flash& slots) const {
  if (!IsAsExported() && !CanPredict()) return Status::kNotTrained;
  Tables tables;
  Buffers buffers;
  ListRecords(&tables, &buffers);
  const DeltaSlots saved(slots);
  return saved.Holds(tables, settings_, buffers) ? Status::kOk : saved.Write(tables, settings_, buffers);
}

bool Trainer::IsSaved(const Flash& slots) const {
  const DeltaSlots saved(slots);
  if (saved.newest() == kNone) return IsAsExported();
  Tables tables;
  Buffers buffers;
  ListRecords(&tables, &buffers);
  return saved.Holds(tables, settings_, buffers);
}

Status Trainer::LoadDelta(const Flash& slots) {
  const DeltaSlots saved(slots);
  if (!saved.fit()) return Status::kFlashUnfit;
  if (saved.newest() == kNone) return Status::kDeltaCorrupt;
  return LoadDelta(saved.Slot(saved.newest()), saved.slot_bytes());
}

Status Trainer::UndoSave(const Flash& slots) {
  const DeltaSlots saved(slots);
  if (!saved.fit()) return Status::kFlashUnfit;
  if (saved.num_deltas() < 2) return Status::kNothingOlder;
  const Status status = LoadDelta(saved.Slot(saved.older()), saved.slot_bytes());
  return status == Status::kOk ? saved.Erase(saved.newest()) : status;
}

Status Trainer::FactoryReset(const Flash& slots) {
  const DeltaSlots saved(slots);
  if (!saved.fit()) return Status::kFlashUnfit;
  Revert();
  ClearSamples();
  const Status status = saved.Erase(saved.older());
  return status == Status::kOk ? saved.Erase(1 - saved.older()) : status;
}

}  // namespace tinytrain
