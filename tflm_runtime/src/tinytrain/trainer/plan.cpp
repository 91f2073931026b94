// The trainer of a device that chooses by itself: scores, the choice, and plans from a delta.
#include "tinytrain/numerics/strict_float.h"

#include "tinytrain.h"

#include "tinytrain/backward/backward.h"
#include "tinytrain_delta.h"
#include "tinytrain/numerics/math.h"

namespace tinytrain {

// After it no layer is trained, and the forward pass reads flash.
bool Trainer::ForgetPlan() {
  if (!BindWeights(true)) return false;
  tinytrain::ForgetPlan(*exported_, buffers_);
  CutBuffers();
  ForgetHead();
  ForgetOriginals();
  original_weights_ = true;
  return true;
}

// Queries are the samples' first views, as in the first iteration. Prototypes are of all samples, as published.
Status Trainer::Score(const float** scores) {
  if (!HasCandidates()) return Status::kInvalidTables;
  if (!ForgetPlan()) return Status::kModelFailed;
  Status status = UpdateAdaptedPrototypes();
  const Candidates& candidates = exported_->candidates;
  float* const sums = PlanScores(buffers_, candidates);
  for (std::int32_t c = 0; c < candidates.num_channels; ++c) sums[c] = 0.0f;
  const FisherSums fisher = {exported_->trained, candidates.num_layers, sums};
  const std::int32_t view = tables_->num_views > 0 ? 1 : 0;
  float loss = 0.0f;
  std::int32_t count = 0;
  for (std::int32_t s = 0; s < num_samples_ && status == Status::kOk; ++s) {
    if (!IsOfClass(s)) continue;
    ++count;
    const std::int8_t* outputs[kMaxOutputs] = {};
    const std::int8_t* const features = StoredSample(s, view);
    status = HeadGradient(s, features, false, outputs, &loss);
    if (status == Status::kOk) BackwardFisher(*tables_, buffers_, features, outputs, fisher);
  }
  if (status != Status::kOk) return status;
  const float mean = 1.0f / static_cast<float>(2 * count);
  for (std::int32_t c = 0; c < candidates.num_channels; ++c) {
    sums[c] *= mean;
    if (!IsFinite(sums[c])) return Status::kScoresNotFinite;
  }
  if (scores != nullptr) *scores = sums;
  return Status::kOk;
}

Status Trainer::Select(const Budget& budget) {
  Status status = Score(nullptr);
  if (status != Status::kOk) return status;
  Room room = room_;
  if (budget.arena_bytes > 0 && budget.arena_bytes < room.arena_bytes) room.arena_bytes = budget.arena_bytes;
  const std::uint32_t macs = budget.backward_macs > 0 ? budget.backward_macs : exported_->candidates.backward_macs;
  status = ChoosePlan(*exported_, settings_, buffers_, room, macs, sample_flash_.data != nullptr);
  if (status != Status::kOk) return status;
  CutBuffers();
  Revert();
  must_select_ = false;
  return BindWeights(false) ? Status::kOk : Status::kModelFailed;
}

// The layers and channels of a delta that fits the candidates become the plan. A list in the scratch tells whether there is
// room.
Status Trainer::AdoptPlan(const std::uint8_t* delta) {
  if (!ClaimScratch()) return Status::kModelFailed;
  const auto list_bytes = static_cast<std::size_t>(exported_->candidates.num_layers) * sizeof(TrainedLayer);
  if (list_bytes > scratch_.bytes) return Status::kArenaTooSmall;
  auto* const list = static_cast<TrainedLayer*>(static_cast<void*>(scratch_.data));
  Tables wanted = *exported_;
  wanted.trained = list;
  wanted.num_trained = ReadPlan(*exported_, delta, list, nullptr);
  if (wanted.num_trained == kNone) return Status::kDeltaForeign;
  if (!room_.Holds(MeasureParts(wanted, settings_, sample_flash_.data != nullptr))) return Status::kArenaTooSmall;
  if (!ForgetPlan()) return Status::kModelFailed;
  std::uint16_t* const channels = PlanChannels(buffers_, exported_->candidates);
  PlanTables(buffers_)->num_trained = ReadPlan(*exported_, delta, PlanLayers(buffers_), channels);
  CutBuffers();
  return BindWeights(false) ? Status::kOk : Status::kModelFailed;
}

}  // namespace tinytrain
