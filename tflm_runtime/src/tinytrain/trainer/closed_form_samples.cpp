// The samples of a closed-form head: those that it is solved for, classes that are forgotten, samples in flash that last.
#include "tinytrain/numerics/strict_float.h"

#include <cstring>

#include "tinytrain/delta/format.h"
#include "tinytrain/trainer/closed_form_sizes.h"
#include "tinytrain/trainer/head.h"
#include "tinytrain_closed_form.h"

namespace tinytrain {
namespace {

std::size_t PlaceBytes(const Tables& tables, std::size_t view_bytes) {
  return (1 + static_cast<std::size_t>(tables.num_views)) * view_bytes;
}

}  // namespace

// Two classes have samples or, if unknown ones are told, one has. Counts the samples of each class.
Status ClosedForm::CheckLabels() const {
  const Trainer& t = *trainer_;
  std::memset(t.buffers_.counts, 0, static_cast<std::size_t>(num_classes()) * sizeof(std::int32_t));
  std::int32_t num_present = 0;
  for (std::int32_t place = 0; place < t.num_samples_; ++place) {
    const std::uint8_t label = t.buffers_.labels[place];
    if (label < num_classes() && ++t.buffers_.counts[label] == 1) ++num_present;
  }
  return num_present > (rejects() ? 0 : 1) ? Status::kOk : Status::kNotEnoughSamples;
}

// The places that hold a sample, in order.
void ClosedForm::ListRows(RidgeTask* task, RidgeWork* work) {
  const Trainer& t = *trainer_;
  rows_.count = 0;
  for (std::int32_t place = 0; place < t.num_samples_; ++place) rows_.count += t.buffers_.labels[place] < num_labels ? 1 : 0;
  *work = CutRidgeWork(t.scratch_.data, rows_.count, parts().count, num_labels);
  std::int32_t i = 0;
  for (std::int32_t place = 0; place < t.num_samples_; ++place) {
    if (t.buffers_.labels[place] < num_labels) work->order[i++] = static_cast<std::uint16_t>(place);
  }
  rows_.order = work->order;
  *task = {rows_, t.buffers_.labels, 0, 0};
  task->CountTargets(num_classes());
}

void ClosedForm::CountRight(const RidgeTask& task, const float* leave_one_out) {
  num_right_ = 0;
  for (std::int32_t i = 0; i < rows_.count; ++i, leave_one_out += task.num_targets) {
    std::int32_t best = 0;
    for (std::int32_t k = 1; k < task.num_targets; ++k) best = leave_one_out[k] > leave_one_out[best] ? k : best;
    num_right_ += best == task.Label(i) ? 1 : 0;
  }
  is_enough = num_right_ == rows_.count;
}

// The prototypes are means of the rows' last parts; zeros without samples.
void ClosedForm::MeanRows(float* prototypes) const {
  const Trainer& t = *trainer_;
  const std::int32_t dimension = t.buffers_.dimension, before = row_elements() - dimension;
  const Tensor& embedding = t.tables_->tensors[t.tables_->num_tensors - 1];
  for (std::int32_t i = 0; i < num_classes() * dimension; ++i) prototypes[i] = 0.0f;
  for (std::int32_t i = 0; i < rows_.count; ++i) {
    const std::uint8_t label = t.buffers_.labels[rows_.order[i]];
    if (label < num_classes())
      AddEmbedding(prototypes + label * dimension, rows_.At(i) + before, embedding.zero_point, dimension);
  }
  for (std::int32_t k = 0; k < num_classes(); ++k) {
    if (t.buffers_.counts[k] > 0) MeanOfSums(prototypes + k * dimension, embedding.scale, t.buffers_.counts[k], dimension);
  }
}

// In RAM the samples after those that are forgotten move up.
Status ClosedForm::ForgetClass(std::int32_t label) {
  if (label < 0 || label >= num_labels) return Status::kLabelOutOfRange;
  Trainer& t = *trainer_;
  std::int32_t kept = 0;
  for (std::int32_t place = 0; place < t.num_samples_; ++place) {
    std::uint8_t* const labels = t.buffers_.labels;
    if (in_flash_) {
      if (labels[place] == label) labels[place] = kForgotten;
    } else if (labels[place] != label) {
      const std::size_t bytes = PlaceBytes(*t.tables_, static_cast<std::size_t>(t.buffers_.feature_elements));
      std::int8_t* const samples = t.buffers_.samples;
      std::memmove(samples + static_cast<std::size_t>(kept) * bytes, samples + static_cast<std::size_t>(place) * bytes, bytes);
      labels[kept++] = labels[place];
    }
  }
  if (!in_flash_) t.num_samples_ = kept;
  t.SamplesChanged();
  return Status::kOk;
}

std::uint32_t ClosedForm::PlaceCrc(std::int32_t place) const {
  const std::size_t bytes = PlaceBytes(*trainer_->tables_, FlashSampleBytes(*trainer_->tables_));
  return Crc32(trainer_->sample_flash_.data + static_cast<std::size_t>(place) * bytes, bytes);
}

// Whether a sample can be added there: its bytes before the next page begins must be erased already.
bool ClosedForm::IsWritable(std::int32_t place) const {
  const Flash& flash = trainer_->sample_flash_;
  const std::size_t bytes = PlaceBytes(*trainer_->tables_, FlashSampleBytes(*trainer_->tables_));
  const std::size_t begin = static_cast<std::size_t>(place) * bytes, page_end = RoundUpTo(flash.page_bytes, begin);
  const std::size_t end = begin + bytes < page_end ? begin + bytes : page_end;
  for (std::size_t at = begin; at < end; ++at) {
    if (flash.data[at] != 0xff) return false;
  }
  return true;
}

void ClosedForm::PutSamples(DeltaWriter* writer) const {
  const Trainer& t = *trainer_;
  const auto count = static_cast<std::uint32_t>(t.settings_.max_samples);
  const auto label = [&](std::int32_t place) { return place < t.num_samples_ ? t.buffers_.labels[place] : kForgotten; };
  writer->RecordHead(kSamplesName, NameBytes(kSamplesName), kInt8Values, kHasBias, 2, count);
  for (std::uint32_t c = 0; c < count; ++c) writer->U16(static_cast<std::uint16_t>(c));
  for (std::int32_t place = 0; place < t.settings_.max_samples; ++place) {
    writer->U8(label(place) & 127u);
    writer->U8(static_cast<std::uint8_t>(label(place) >> 7));
  }
  for (std::int32_t place = 0; place < t.settings_.max_samples; ++place) {
    writer->U32(label(place) == kForgotten ? 0 : PlaceCrc(place));
  }
}

// A trainer that has samples keeps them.
void ClosedForm::TakeSamples(const Record& record) {
  Trainer& t = *trainer_;
  if (!in_flash_ || t.num_samples_ > 0) return;
  for (std::int32_t place = 0; place < t.settings_.max_samples; ++place) {
    const auto at = static_cast<std::size_t>(place);
    const std::int32_t label = (record.values[2 * at] & 127) + 128 * record.values[2 * at + 1];
    const bool is_there = label < num_labels && record.Word(record.biases, at) == PlaceCrc(place);
    t.buffers_.labels[place] = is_there ? static_cast<std::uint8_t>(label) : kForgotten;
    if (is_there) t.num_samples_ = place + 1;
  }
  while (t.num_samples_ > 0 && t.num_samples_ < t.settings_.max_samples && !IsWritable(t.num_samples_)) ++t.num_samples_;
}

}  // namespace tinytrain
