// Two slots of flash that keep deltas: the newer one counts, the other one is written next.
#include "tinytrain/numerics/strict_float.h"

#include <cstring>

#include "tinytrain_delta.h"

namespace tinytrain {
namespace {

// Collects written bytes into blocks. After a failure it writes no more.
struct SlotWriter {
  const Flash* flash;
  std::size_t offset;
  std::size_t fill;
  Status status;
  alignas(16) std::uint8_t block[kFlashBlockBytes];
};

void FlushSlot(SlotWriter* slot) {
  if (slot->fill == 0 || slot->status != Status::kOk) return;
  std::memset(slot->block + slot->fill, 0xff, kFlashBlockBytes - slot->fill);
  slot->status = WriteBlock(*slot->flash, slot->offset, slot->block);
  slot->offset += kFlashBlockBytes;
  slot->fill = 0;
}

void PutIntoSlot(void* context, const std::uint8_t* bytes, std::size_t count) {
  auto* slot = static_cast<SlotWriter*>(context);
  for (std::size_t i = 0; i < count; ++i) {
    slot->block[slot->fill++] = bytes[i];
    if (slot->fill == kFlashBlockBytes) FlushSlot(slot);
    if (slot->status != Status::kOk) slot->fill = 0;
  }
}

// Compares a slot with the bytes that would be written there.
struct Comparison {
  const std::uint8_t* next;
  bool equal;
};

void CompareWithSlot(void* context, const std::uint8_t* bytes, std::size_t count) {
  auto* comparison = static_cast<Comparison*>(context);
  comparison->equal = comparison->equal && std::memcmp(comparison->next, bytes, count) == 0;
  comparison->next += count;
}

}  // namespace

std::int32_t NewestDelta(const std::uint8_t* slot_0, const std::uint8_t* slot_1, std::size_t slot_bytes) {
  std::uint32_t sequence_0 = 0, sequence_1 = 0;
  const bool good_0 = CheckDelta(slot_0, slot_bytes, &sequence_0) == Status::kOk;
  const bool good_1 = CheckDelta(slot_1, slot_bytes, &sequence_1) == Status::kOk;
  if (!good_0) return good_1 ? 1 : kNone;
  if (!good_1) return 0;
  return sequence_1 - sequence_0 - 1u < 0x7fffffffu ? 1 : 0;  // 1 is ahead by 1 to 2^31 - 1
}

std::size_t DeltaSlotBytes(const Flash& slots) {
  return slots.page_bytes == 0 ? 0 : slots.bytes / 2 / slots.page_bytes * slots.page_bytes;
}

DeltaSlots::DeltaSlots(const Flash& flash)
    : flash_(flash),
      slot_bytes_(DeltaSlotBytes(flash)),
      fit_(CheckFlash(flash, 2 * flash.page_bytes) == Status::kOk),
      newest_(fit_ ? NewestDelta(Slot(0), Slot(1), slot_bytes_) : kNone) {
  if (newest_ != kNone) CheckDelta(Slot(newest_), slot_bytes_, &sequence_);
}

std::int32_t DeltaSlots::num_deltas() const {
  if (newest_ == kNone) return 0;
  return CheckDelta(Slot(older()), slot_bytes_, nullptr) == Status::kOk ? 2 : 1;
}

bool DeltaSlots::Holds(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers) const {
  if (newest_ == kNone || DeltaSize(tables, settings, buffers) > slot_bytes_) return false;
  Comparison comparison = {Slot(newest_), true};
  PutDelta(tables, settings, buffers, sequence_, &CompareWithSlot, &comparison);
  return comparison.equal;
}

Status DeltaSlots::Write(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers) const {
  if (!fit_ || DeltaSize(tables, settings, buffers) > slot_bytes_) return Status::kFlashUnfit;
  SlotWriter writer{&flash_, Offset(older()), 0, Erase(older()), {}};
  PutDelta(tables, settings, buffers, sequence_ + 1, &PutIntoSlot, &writer);
  FlushSlot(&writer);
  return writer.status;
}

Status DeltaSlots::Erase(std::int32_t slot) const { return ErasePages(flash_, Offset(slot), Offset(slot) + slot_bytes_); }

}  // namespace tinytrain
