// Where a closed-form head keeps its solutions: in memory of its own or, as the samples, in flash.
#include "tinytrain/numerics/strict_float.h"

#include <cstring>

#include "tinytrain/trainer/closed_form_sizes.h"
#include "tinytrain_closed_form.h"

namespace tinytrain {
namespace {

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

}  // namespace

// Where the values of a solution begin in flash.
std::size_t ClosedForm::HeadOffset(Solution solution) const {
  const Flash& flash = trainer_->sample_flash_;
  const std::size_t stride = RoundUpTo(kFlashBlockBytes, static_cast<std::size_t>(row_elements()));
  const std::size_t begin = RoundUpTo(flash.page_bytes, FlashSamplesBytes(*trainer_->exported_, trainer_->settings_));
  return begin + static_cast<std::size_t>(solution) * RoundUpTo(flash.page_bytes, ValueBytes(num_classes(), stride));
}

// The scales of all solutions come first in `memory`, then the values, if they are there.
std::int32_t* ClosedForm::Scales(Solution solution) const {
  void* const scales = memory_ + static_cast<std::size_t>(solution) * ScaleBytes(num_classes());
  return static_cast<std::int32_t*>(scales);
}

// Where a solution is written: in RAM, to its own place; for flash, first to the scratch, after the equations.
RidgeSpace ClosedForm::Space(Solution solution) const {
  std::uint8_t* place = nullptr;
  if (in_flash_) {
    place = trainer_->scratch_.data + RidgeWorkBytes(trainer_->settings_.max_samples, parts().count, num_labels);
  } else {
    const std::size_t one = RoundUp(ValueBytes(num_classes(), static_cast<std::size_t>(row_elements())));
    place = memory_ + num_solutions() * ScaleBytes(num_classes()) + static_cast<std::size_t>(solution) * one;
  }
  return {static_cast<std::int8_t*>(static_cast<void*>(place)), Scales(solution)};
}

RidgeWeights ClosedForm::weights(Solution solution) const {
  const auto elements = static_cast<std::size_t>(row_elements());
  if (!in_flash_) return {Space(solution).values, elements, Scales(solution)};
  const void* const mapped = trainer_->sample_flash_.data + HeadOffset(solution);
  return {static_cast<const std::int8_t*>(mapped), RoundUpTo(kFlashBlockBytes, elements), Scales(solution)};
}

// Puts values, which lie without gaps, where weights(solution) has them. Flash that holds them is not written again.
Status ClosedForm::KeepValues(Solution solution, const std::int8_t* values) {
  const RidgeWeights kept = weights(solution);
  const auto elements = static_cast<std::size_t>(row_elements());
  if (!in_flash_) {
    std::memmove(Space(solution).values, values, ValueBytes(num_classes(), elements));
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
    status = WriteRow(trainer_->sample_flash_, HeadOffset(solution) + row * kept.stride, values + row * elements, elements);
  }
  return status;
}

// Rows follow the equations in the scratch, and the values on their way to flash. In flash, each goes through one buffer there.
// A place without a sample has no row; in flash its pages are erased all the same, for the row after it.
Status ClosedForm::StoreRow(std::int32_t place) {
  const auto elements = static_cast<std::size_t>(row_elements());
  const std::size_t work = RidgeWorkBytes(trainer_->settings_.max_samples, parts().count, num_labels);
  void* const behind = trainer_->scratch_.data + work + (in_flash_ ? RoundUp(ValueBytes(num_classes(), elements)) : 0);
  auto* const first = static_cast<std::int8_t*>(behind);
  const std::size_t at = static_cast<std::size_t>(place) * rows_.stride;
  const bool has_sample = trainer_->buffers_.labels[place] < num_labels;
  if (!rows_in_flash_) rows_.first = first;
  std::int8_t* const row = rows_in_flash_ ? first : first + at;
  const Status status = has_sample ? MakeRow(trainer_->StoredSample(place, 0), place, row) : Status::kOk;
  if (status != Status::kOk || !rows_in_flash_) return status;
  const Flash& flash = trainer_->sample_flash_;
  const void* const mapped = rows_.first;
  const std::size_t begin = static_cast<std::size_t>(static_cast<const std::uint8_t*>(mapped) - flash.data) + at;
  return has_sample ? WriteRow(flash, begin, row, elements) : ErasePages(flash, begin, begin + elements);
}

}  // namespace tinytrain
