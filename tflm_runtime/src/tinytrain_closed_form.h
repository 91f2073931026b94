// A closed-form head: a task is learned in one forward pass a sample, and nothing is trained.
//
// It is ridge regression on rows of int8: some maps of the trainable part, pooled to 3 x 3, and the embedding
// (tinytrain/trainer/ridge.h). It answers in place of the prototypes, with logits logit_scale * score.
//
//   1. Init after Trainer::Init and before a delta is loaded. From then on it is the trainer's second head: Predict asks it
//      once it was solved, Trainer::Train ends with Solve, and deltas, Revert, UndoSave and FactoryReset hold for it.
//   2. Trainer::AddSample, then Solve. Trainer::Train refines the network, on the loss of prototypes, and solves again.
//
// With settings.average > 0 there are two solutions, for the adapted and for the original weights, and Predict averages their
// logits. Before anything is trained they are one: a prediction then takes one pass of the trainable part.
//
// A delta has two further records, "ridge" and, if average > 0, "original_ridge": int8 values, a channel for each class (W) and
// one for the centre. The int32 in the place of a channel's bias is its scale in units of 2^-30, that of the centre 1: its unit
// is that of a row. The delta also holds prototypes, as without this head.
//
// Over the serial port (tinytrain_serial.h): SOLVE, and which head answers.
//
// Only a program that names this class has its code. Memory: W and the centre last, in `memory` or, if the trainer keeps its
// samples in flash, in flash after them. Equations lie in the trainer's scratch while they are solved, and so do the rows if
// there is room, else in flash.
#ifndef TINYTRAIN_CLOSED_FORM_H_
#define TINYTRAIN_CLOSED_FORM_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain.h"
#include "tinytrain/trainer/ridge.h"
#include "tinytrain/trainer/second_head.h"

namespace tinytrain {

constexpr std::int32_t kMaxMaps = 8;
constexpr char kRidgeName[] = "ridge";
constexpr char kOriginalRidgeName[] = "original_ridge";

// With N = max_samples, K = num_classes, P = num_maps + 1 and R = elements of a row. [n] is rounded up to 16.
struct ClosedFormBytes {
  std::size_t state;    // `memory`: [4 * (K + 1)] scales and, if samples are in RAM, [(K + 1) * R]; average > 0: twice that
  std::size_t scratch;  // of Model::scratch, which also holds MemoryParts::scratch: the larger of what Predict and Solve
                        // need, the latter with the rows in flash. Samples in flash: [(K + 1) * R] of it is W on its way
  std::size_t scratch_rows;  // the same with the rows, [N * R], in the scratch
  // If samples are in flash, after their whole pages, r being R rounded up to 256:
  std::size_t flash_weights;  // (K + 1) * r, in whole pages; average > 0: as many pages again, of the original weights
  std::size_t flash_rows;     // N * r, in whole pages, if the rows are there
};

class ClosedForm : public SecondHead {
 public:
  // Zeros for tables, settings or maps that Init would refuse.
  static ClosedFormBytes RequiredBytes(const Tables& tables, const TrainingSettings& settings, const Maps& maps,
                                       bool samples_in_flash);

  // All arguments must outlive the head. `memory` is aligned to 16. The rows lie in the trainer's scratch if it has
  // `scratch_rows` bytes, else in flash.
  Status Init(Trainer* trainer, const Maps& maps, std::uint8_t* memory, std::size_t memory_bytes);

  // Solves for the stored samples. `leave_one_out`: the scores of each sample by the adapted solution without it, in the order
  // stored, [num_samples][num_classes], valid until the next call of the trainer; may be nullptr.
  Status Solve(const float** leave_one_out = nullptr);

  // Samples that the solution without them gets right, of those that were solved for; kNone: nothing was solved since Init.
  std::int32_t num_right() const { return num_right_; }
  // The row of a stored sample, valid until the next call of the trainer; what was solved for last.
  const std::int8_t* Row(std::int32_t sample) const { return rows_.At(sample); }
  std::int32_t row_elements() const { return parts().Total(); }
  // The solution for the adapted weights or, if average > 0, for the original ones.
  RidgeWeights weights(bool original) const;

 private:
  static Status UpdateHead(SecondHead* self);
  static Status PredictHead(SecondHead* self);
  static void PutHead(const SecondHead* self, DeltaWriter* writer);
  static Status TakeRecord(SecondHead* self, const Record& record, bool apply);
  static bool Obey(SecondHead* self, const char* line, const Port& port);

  RowParts parts() const { return {sizes_, num_maps_ + 1}; }
  std::int32_t num_classes() const { return trainer_->settings_.num_classes; }
  bool averages() const { return trainer_->settings_.average > 0.0f; }
  Status SolveWith(bool original);
  Status MakeRow(const std::int8_t* features, std::int8_t* row);
  Status StoreRow(std::int32_t sample);
  std::size_t HeadOffset(bool original) const;
  std::int32_t* Scales(bool original) const;
  RidgeSpace Space(bool original) const;
  Status KeepValues(bool original, const std::int8_t* values);
  void CountRight(const float* leave_one_out);
  Status CopyToOriginal();
  RidgeWork Work() const;
  Status Scores(bool original, float* logits);
  bool Fits(const Record& record) const;
  void PutWeights(const char* name, const RidgeWeights& weights, DeltaWriter* writer) const;

  Trainer* trainer_ = nullptr;
  std::int32_t num_maps_ = 0;
  const std::int32_t* maps_ = nullptr;
  std::int32_t sizes_[kMaxMaps + 1] = {};
  std::uint8_t* memory_ = nullptr;
  bool in_flash_ = false;
  bool rows_in_flash_ = false;
  Rows rows_{};
  std::int32_t num_right_ = kNone;
};

}  // namespace tinytrain

#endif  // TINYTRAIN_CLOSED_FORM_H_
