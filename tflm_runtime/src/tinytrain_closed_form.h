// A closed-form head: a task is learned in one forward pass a sample, and nothing is trained.
//
// It is ridge regression on rows of int8: some maps of the network, pooled to 3 x 3, and the embedding
// (tinytrain/trainer/ridge.h). It answers in place of the prototypes, with logits logit_scale * score.
//
//   1. Init after Trainer::Init and before a delta is loaded. From then on it is the trainer's second head: Predict asks it
//      once it was solved, Trainer::Train ends with Solve, and deltas, Revert, UndoSave and FactoryReset hold for it.
//   2. Trainer::AddSample, then Solve. Trainer::Train refines the network, on the loss of prototypes, and solves again.
//
// Maps::choice: it may choose. Solve then counts the samples that each head of the original weights gets right without them,
// as keras_tinytrain.adapt(head="auto") does. Where the closed form gets fewer right, the prototypes answer; of windows in
// time, also where it gets more right by no more than chance. The only sample of a class counts for neither. While a class has
// no sample, which prototypes need, the closed form answers. Train chooses first, and takes the iterations of what answers.
//
// With settings.average > 0 there are two solutions, for the adapted and for the original weights, and Predict averages their
// logits. Before anything is trained they are one: a prediction then takes one pass of the trainable part. Train solves for the
// original weights first where embeddings are kept: they are the first prototypes, too.
//
// Classes come and go. A class without a stored sample is never answered; with a sample, the next Solve learns it. ForgetClass
// forgets a class's samples. Train, which needs a sample of every class, can come before or after.
//
// Unknown samples. With Maps::num_bounds > 0, Predict answers kNone where a sample is of no class: where its familiarity is
// below a threshold that Solve finds from the stored samples alone (tinytrain/trainer/familiarity.h). The original weights
// judge, so settings.average must be above 0. A sample of label num_classes is of no class: Solve tells the classes from it,
// Train leaves it out. With num_classes 1 the familiarity is a score of anomaly: the lower, the more of one.
//
// A delta has further records, all int8 with an int32 in the place of a channel's bias except "threshold".
// - "ridge": a channel for each class (W) and one for the centre. The int32 is its scale in units of 2^-30, that of the centre
//   1: its unit is that of a row. A class without samples has zeros and scale 0.
// - "original_ridge": the same of the original weights, if average > 0.
// - "known": where unknown samples are told, a channel for each class (m) and one for W of the samples of no class.
// - "threshold": one float32, with "known".
// - "samples": in slots alone, where samples are in flash, a channel for each place. Its two values are the label's lowest 7
//   bits and the rest, label 255 meaning none; its int32 is the CRC-32 of what is stored there. A trainer that has no samples
//   takes over those that are still in flash as they were.
// Where the prototypes answer, the delta is that of a trainer without this head; else it holds no prototypes.
//
// Over the serial port (tinytrain_serial.h): SOLVE, FORGET, FAMILIARITY, and which head answers.
//
// Only a program that names this class has its code. Memory: W and the centre last, in `memory` or, if the trainer keeps its
// samples in flash, in flash after them. Equations lie in the trainer's scratch while they are solved, and so do the rows if
// there is room, else in flash.
#ifndef TINYTRAIN_CLOSED_FORM_H_
#define TINYTRAIN_CLOSED_FORM_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain.h"
#include "tinytrain/trainer/familiarity.h"
#include "tinytrain/trainer/ridge.h"
#include "tinytrain/trainer/second_head.h"

namespace tinytrain {

constexpr std::int32_t kMaxMaps = 8;
constexpr char kRidgeName[] = "ridge";
constexpr char kOriginalRidgeName[] = "original_ridge";
constexpr char kKnownName[] = "known";
constexpr char kThresholdName[] = "threshold";
constexpr char kSamplesName[] = "samples";

// A solution is [num_classes + 1] rows with a scale each.
enum class Solution : std::uint8_t {
  kAdapted = 0,   // W of each class, and the centre
  kOriginal = 1,  // the same of the original weights; average > 0
  kKnown = 2,     // m of each class, and W of the samples of no class; Maps::num_bounds > 0
};

// With N = max_samples, K = num_classes, P = num_maps + 1, R = elements of a row, and S solutions. [n] is rounded up to 16.
struct ClosedFormBytes {
  std::size_t state;         // `memory`: S * [4 * (K + 1)] scales and, if samples are in RAM, S * [(K + 1) * R]
  std::size_t scratch;       // of Model::scratch, which also holds MemoryParts::scratch: the larger of what Predict and Solve
                             // need, the latter with the rows in flash. Samples in flash: [(K + 1) * R] of it is W on its way
  std::size_t scratch_rows;  // the same with the rows, [N * R], in the scratch
  // If samples are in flash, after their whole pages, r being R rounded up to 256:
  std::size_t flash_weights;  // (K + 1) * r, in whole pages; S times, one after the other
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

  // Solves for the stored samples, which are of two classes at least, or of one if unknown samples are told. `leave_one_out`:
  // the scores of each sample by the adapted solution without it, in the order stored, [num_rows][num_targets], valid until the
  // next call of the trainer; may be nullptr.
  Status Solve(const float** leave_one_out = nullptr);
  // Of the last Solve: samples, and classes; samples of no class are one more.
  std::int32_t num_rows() const { return rows_.count; }
  std::int32_t num_targets() const { return num_targets_; }

  // Forgets the stored samples of a class, or those of no class: label num_classes. The next Solve does without it. In RAM
  // their places are free then, in flash after ClearSamples.
  Status ForgetClass(std::int32_t label);

  // The familiarity of what was predicted last, and the threshold below which it is of no class; kNoThreshold.
  float familiarity() const { return familiarity_; }
  float threshold() const { return threshold_; }

  // Samples that the solution without them gets right, of those that were solved for; kNone: nothing was solved since Init.
  std::int32_t num_right() const { return num_right_; }
  // The row of a stored sample, valid until the next call of the trainer; what was solved for last.
  const std::int8_t* Row(std::int32_t sample) const { return rows_.AtPlace(sample); }
  std::int32_t row_elements() const { return parts().Total(); }
  RidgeWeights weights(Solution solution) const;

 private:
  static Status UpdateHead(SecondHead* self);
  static Status PredictHead(SecondHead* self);
  static void PutHead(const SecondHead* self, DeltaWriter* writer, bool in_slot);
  static Status TakeRecord(SecondHead* self, const Record& record, bool apply);
  static bool Obey(SecondHead* self, const char* line, const Port& port);

  RowParts parts() const { return {sizes_, zero_points_, maps_->num_maps + 1}; }
  std::int32_t num_classes() const { return trainer_->settings_.num_classes; }
  bool averages() const { return trainer_->settings_.average > 0.0f; }
  bool rejects() const { return maps_->num_bounds > 0; }
  std::size_t num_solutions() const { return 1u + (averages() ? 1u : 0u) + (rejects() ? 1u : 0u); }
  Status CheckLabels() const;
  void ListRows(RidgeTask* task, RidgeWork* work);
  Status SolveWith(Solution solution);
  Status KeepKnown(const RidgeTask& task, const RidgeWork& work, const std::int8_t* centre);
  void MeanRows(float* prototypes) const;
  Status MakeRow(const std::int8_t* features, std::int32_t place, std::int8_t* row);
  Status StoreRow(std::int32_t place);
  std::size_t HeadOffset(Solution solution) const;
  std::int32_t* Scales(Solution solution) const;
  RidgeSpace Space(Solution solution) const;
  Status KeepValues(Solution solution, const std::int8_t* values);
  void CountRight(const RidgeTask& task, const float* leave_one_out);
  bool Holds(const RidgeTask& task, const float* leave_one_out, const float* prototypes) const;
  Status Scores(Solution solution, float* logits);
  void Judge();
  void CountRecords();
  bool Fits(Solution solution, const Record& record) const;
  Status Take(Solution solution, const Record& record);
  void PutWeights(const char* name, const RidgeWeights& weights, DeltaWriter* writer) const;
  std::uint32_t PlaceCrc(std::int32_t place) const;
  bool IsWritable(std::int32_t place) const;
  bool FitsSamples(const Record& record) const;
  void TakeSamples(const Record& record);
  void PutSamples(DeltaWriter* writer) const;

  Trainer* trainer_ = nullptr;
  const Maps* maps_ = nullptr;
  std::int32_t sizes_[kMaxMaps + 1] = {};
  std::int32_t zero_points_[kMaxMaps + 1] = {};
  std::uint8_t* memory_ = nullptr;
  bool in_flash_ = false;
  bool rows_in_flash_ = false;
  bool has_known_ = false;
  Rows rows_{};
  std::int32_t num_targets_ = 0;
  std::int32_t num_right_ = kNone;
  bool holds_ = true;  // the closed form answers
  float familiarity_ = 0.0f;
  float threshold_ = kNoThreshold;
};

}  // namespace tinytrain

#endif  // TINYTRAIN_CLOSED_FORM_H_
