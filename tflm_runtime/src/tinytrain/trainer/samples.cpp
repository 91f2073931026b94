// The trainer's samples: their views, and the frozen part's outputs for them, in the arena or in flash.
#include "tinytrain/numerics/strict_float.h"

#include "tinytrain.h"

#include <cstring>

namespace tinytrain {
namespace {

std::int32_t Clamp(std::int32_t value, std::int32_t lowest, std::int32_t highest) {
  return value < lowest ? lowest : value > highest ? highest : value;
}

}  // namespace

std::size_t Trainer::SampleIndex(std::int32_t sample, std::int32_t view) const {
  return static_cast<std::size_t>(sample) * static_cast<std::size_t>(1 + tables_->num_views) + static_cast<std::size_t>(view);
}

const std::int8_t* Trainer::StoredSample(std::int32_t sample, std::int32_t view) const {
  const std::size_t index = SampleIndex(sample, view);
  if (buffers_.samples != nullptr) return buffers_.samples + index * static_cast<std::size_t>(buffers_.feature_elements);
  const void* mapped = sample_flash_.data + index * FlashSampleBytes(*tables_);
  return static_cast<const std::int8_t*>(mapped);
}

// Stores the frozen part's output for one view.
Status Trainer::StoreView(const std::int8_t* image, std::int32_t view) {
  const std::size_t index = SampleIndex(num_samples_, view);
  if (buffers_.samples != nullptr) {
    std::int8_t* stored = buffers_.samples + index * static_cast<std::size_t>(buffers_.feature_elements);
    return RunFrozen(image, stored) ? Status::kOk : Status::kModelFailed;
  }
  const std::int8_t* features = buffers_.features;
  if (kMayLeaveOut && model_.run_frozen_in_place != nullptr) {
    has_embeddings_ = false;  // they lie in the scratch
    features = model_.run_frozen_in_place(model_.context, image);
  } else if (!RunFrozen(image, buffers_.features)) {
    features = nullptr;
  }
  if (features == nullptr) return Status::kModelFailed;
  const std::size_t bytes = FlashSampleBytes(*tables_), begin = index * bytes;
  const auto num_features = static_cast<std::size_t>(buffers_.feature_elements);
  Status status = ErasePages(sample_flash_, begin, begin + bytes);  // an earlier view erased the page that begins earlier
  for (std::size_t at = 0; at < bytes && status == Status::kOk; at += kFlashBlockBytes) {
    alignas(16) std::uint8_t block[kFlashBlockBytes] = {};
    std::memcpy(block, features + at, bytes - at > kFlashBlockBytes ? kFlashBlockBytes : num_features - at);
    status = WriteBlock(sample_flash_, begin + at, block);
  }
  return status;
}

// With views, the image must outlive the runs of the frozen part; the views are made in its input.
std::int8_t* Trainer::ImageBuffer() {
  if (model_.frozen_input == nullptr) return nullptr;
  return tables_->num_views > 0 ? buffers_.image : model_.frozen_input(model_.context);
}

// view[y][x] = image[clamp(y - shift_y)][clamp(x - shift_x)], or that of the mirror image
const std::int8_t* Trainer::MakeView(const std::int8_t* image, const View& view) {
  const std::int32_t channels = tables_->image_channels;
  std::int8_t* const made = model_.frozen_input == nullptr ? buffers_.image : model_.frozen_input(model_.context);
  std::int8_t* out = made;
  if (out == nullptr) return nullptr;
  for (std::int32_t y = 0; y < tables_->image_height; ++y) {
    const std::int32_t from_y = Clamp(y - view.shift_y, 0, tables_->image_height - 1);
    for (std::int32_t x = 0; x < tables_->image_width; ++x, out += channels) {
      const std::int32_t shifted_x = Clamp(x - view.shift_x, 0, tables_->image_width - 1);
      const std::int32_t from_x = view.mirrored ? tables_->image_width - 1 - shifted_x : shifted_x;
      std::memcpy(out, image + (from_y * tables_->image_width + from_x) * channels, static_cast<std::size_t>(channels));
    }
  }
  return made;
}

bool Trainer::RunFrozen(const std::int8_t* image, std::int8_t* features) {
  if (kMayLeaveOut) has_embeddings_ = false;  // they lie in the scratch
  if (model_.run_frozen != nullptr) return model_.run_frozen(model_.context, image, features);
  std::memcpy(features, image, static_cast<std::size_t>(buffers_.feature_elements));
  return true;
}

Status Trainer::AddSample(const std::int8_t* image, std::int32_t label) {
  const SecondHead* const second = buffers_.second_head;
  if (label < 0 || label >= (second != nullptr ? second->num_labels : settings_.num_classes)) return Status::kLabelOutOfRange;
  if (num_samples_ >= settings_.max_samples) return Status::kFull;
  for (std::int32_t view = 0; view <= tables_->num_views; ++view) {
    const std::int8_t* seen = view > 0 ? MakeView(image, tables_->views[view - 1]) : image;
    const Status status = seen == nullptr ? Status::kModelFailed : StoreView(seen, view);
    if (status != Status::kOk) return status;
  }
  buffers_.labels[num_samples_++] = static_cast<std::uint8_t>(label);
  SamplesChanged();
  return Status::kOk;
}

void Trainer::SamplesChanged() {
  if (kMayLeaveOut) has_embeddings_ = false;
  originals_are_current_ = false;
  if (buffers_.second_head != nullptr) buffers_.second_head->knows_original = false;
}

void Trainer::ClearSamples() {
  num_samples_ = 0;
  SamplesChanged();
  must_select_ = HasCandidates();
}

// Counts the samples of each class; every class needs one to have a prototype.
Status Trainer::CheckSamples() {
  if (num_samples_ == 0) return Status::kNotEnoughSamples;
  if (tables_->head != Head::kPrototypes) return Status::kOk;
  std::memset(buffers_.counts, 0, static_cast<std::size_t>(settings_.num_classes) * sizeof(std::int32_t));
  for (std::int32_t s = 0; s < num_samples_; ++s) {
    if (IsOfClass(s)) ++buffers_.counts[buffers_.labels[s]];
  }
  for (std::int32_t k = 0; k < settings_.num_classes; ++k) {
    if (buffers_.counts[k] == 0) return Status::kNotEnoughSamples;
  }
  return settings_.num_classes > 1 ? Status::kOk : Status::kNotEnoughSamples;
}

}  // namespace tinytrain
