#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/trainer/selection.h"

#include <cstring>

#include "tinytrain/backward/backward.h"
#include "tinytrain/numerics/math.h"

namespace tinytrain {
namespace {

// s = P, P / w, P / m or P / (w * m); w and m are shares of the largest candidate's weights and multiply-accumulates.
float LayerScore(Criterion criterion, float potential, float weight_share, float mac_share) {
  switch (criterion) {
    case Criterion::kPotential: return potential;
    case Criterion::kPerWeight: return potential / weight_share;
    case Criterion::kPerMac: return potential / mac_share;
    case Criterion::kPerWeightAndMac: return potential / (weight_share * mac_share);
  }
  return 0.0f;
}

// The budgeted choice over counts of channels.
class Filling {
 public:
  Filling(const Tables& exported, const TrainingSettings& settings, const Buffers& buffers, const Room& room,
          std::uint32_t backward_macs, bool samples_in_flash)
      : exported_(exported),
        settings_(settings),
        chosen_(*PlanTables(buffers)),
        layers_(PlanLayers(buffers)),
        room_(room),
        backward_macs_(backward_macs),
        samples_in_flash_(samples_in_flash),
        scores_(PlanScores(buffers, exported.candidates)) {}

  // Number of channels of each candidate.
  const std::int32_t* Run() {
    Rank();
    while (TakeNext()) {
    }
    while (TopUp()) {
    }
    return counts_;
  }

  // Writes candidates with channels as the plan's trained layers.
  void Apply() {
    std::int32_t num_trained = 0;
    for (std::int32_t i = 0; i < NumCandidates(); ++i) {
      if (counts_[i] == 0) continue;
      layers_[num_trained] = exported_.trained[i];
      layers_[num_trained++].num_channels = counts_[i];
    }
    chosen_.trained = layers_;
    chosen_.num_trained = num_trained;
  }

 private:
  std::int32_t NumCandidates() const { return exported_.candidates.num_layers; }

  // Candidates in decreasing score; the earlier of equal ones first.
  void Rank() {
    std::uint32_t most_weights = 1, most_macs = 1;
    for (std::int32_t i = 0; i < NumCandidates(); ++i) {
      if (Weights(i) > most_weights) most_weights = Weights(i);
      if (Macs(i) > most_macs) most_macs = Macs(i);
    }
    const float* own = scores_;
    for (std::int32_t i = 0; i < NumCandidates(); own += exported_.trained[i].num_channels, ++i) {
      float potential = 0.0f;  // P = sum over channels of Delta
      for (std::int32_t c = 0; c < exported_.trained[i].num_channels; ++c) potential += own[c];
      const float weight_share = static_cast<float>(Weights(i)) / static_cast<float>(most_weights);
      const float mac_share = static_cast<float>(Macs(i)) / static_cast<float>(most_macs);
      layer_scores_[i] = LayerScore(exported_.candidates.criterion, potential, weight_share, mac_share);
      std::int32_t r = i;
      for (; r > 0 && layer_scores_[i] > layer_scores_[order_[r - 1]]; --r) order_[r] = order_[r - 1];
      order_[r] = static_cast<std::uint8_t>(i);
    }
  }

  // Takes the first layer of which an eighth fits, or, of those before it, one whose few channels are worth more: a layer's
  // worth is its score times the share of its channels that fits. Returns false where no eighth of any layer fits.
  bool TakeNext() {
    std::int32_t best = kNone, best_count = 0;
    float most_worth = 0.0f;
    for (std::int32_t r = 0; r < NumCandidates(); ++r) {
      const std::int32_t i = order_[r], size = exported_.trained[i].num_channels;
      const std::int32_t count = counts_[i] > 0 ? 0 : LargestFitting(i);
      if (count == 0) continue;
      const float worth = layer_scores_[i] * static_cast<float>(count) / static_cast<float>(size);
      if (best == kNone || worth > most_worth) {
        best = i;
        best_count = count;
        most_worth = worth;
      }
      if (count >= (size + 7) / 8) {
        counts_[best] = best_count;
        return true;
      }
    }
    return false;
  }

  // Adds channels until none fits, first of layers that have some already. Returns whether any fitted. One call is enough,
  // unless a layer became the earliest trained one.
  bool TopUp() {
    bool has_some[kMaxCandidates], grown = false;
    for (std::int32_t i = 0; i < NumCandidates(); ++i) has_some[i] = counts_[i] > 0;
    for (std::int32_t turn = 0; turn < 2; ++turn) {
      for (std::int32_t r = 0; r < NumCandidates(); ++r) {
        const std::int32_t i = order_[r];
        if (has_some[i] != (turn == 0)) continue;
        const std::int32_t count = LargestFitting(i);
        grown |= count > counts_[i];
        counts_[i] = count;
      }
    }
    return grown;
  }

  // The most channels of a candidate that fit with the others' counts. Costs grow with them.
  std::int32_t LargestFitting(std::int32_t i) {
    const std::int32_t before = counts_[i];
    std::int32_t fitting = before, too_many = exported_.trained[i].num_channels + 1;
    while (too_many - fitting > 1) {
      const std::int32_t middle = (fitting + too_many) / 2;
      counts_[i] = middle;
      (Fits() ? fitting : too_many) = middle;
    }
    counts_[i] = before;
    return fitting;
  }

  bool Fits() {
    Apply();
    return BackwardMacs(chosen_) <= backward_macs_ && room_.Holds(MeasureParts(chosen_, settings_, samples_in_flash_));
  }

  const Layer& LayerOf(std::int32_t i) const { return exported_.layers[exported_.trained[i].layer]; }
  std::uint32_t NumChannels(std::int32_t i) const { return static_cast<std::uint32_t>(exported_.trained[i].num_channels); }
  std::uint32_t Weights(std::int32_t i) const {
    return static_cast<std::uint32_t>(LayoutOf(exported_, LayerOf(i)).weights_per_channel) * NumChannels(i);
  }
  std::uint32_t Macs(std::int32_t i) const { return ChannelMacs(exported_, LayerOf(i)) * NumChannels(i); }

  const Tables& exported_;
  const TrainingSettings& settings_;
  Tables& chosen_;
  TrainedLayer* const layers_;
  const Room& room_;
  const std::uint32_t backward_macs_;
  const bool samples_in_flash_;
  const float* const scores_;
  float layer_scores_[kMaxCandidates] = {};
  std::int32_t counts_[kMaxCandidates] = {};
  std::uint8_t order_[kMaxCandidates] = {};
};

bool IsMarked(float score) { return (BitsFromFloat(score) & 0x80000000u) != 0; }

// Marks the `count` largest of a layer's scores by a negative sign; no score is negative before. The first of equal ones count.
void MarkBest(float* scores, std::int32_t num_channels, std::int32_t count) {
  for (std::int32_t n = 0; n < count; ++n) {
    std::int32_t best = kNone;
    for (std::int32_t c = 0; c < num_channels; ++c) {
      if (!IsMarked(scores[c]) && (best == kNone || scores[c] > scores[best])) best = c;
    }
    scores[best] = FloatFromBits(BitsFromFloat(scores[best]) | 0x80000000u);
  }
}

// Lists of channels overwrite the scores. The writing, 2 bytes for each chosen channel, never overtakes the reading, 4 bytes
// for each channel.
void ListChannels(const Tables& exported, const std::int32_t* counts, const Buffers& buffers) {
  float* scores = PlanScores(buffers, exported.candidates);
  std::uint16_t* channels = PlanChannels(buffers, exported.candidates);
  TrainedLayer* layer = PlanLayers(buffers);
  for (std::int32_t i = 0; i < exported.candidates.num_layers; ++i) {
    const std::int32_t num_channels = exported.trained[i].num_channels;
    if (counts[i] > 0) {
      MarkBest(scores, num_channels, counts[i]);
      (layer++)->channels = channels;
      for (std::int32_t c = 0; c < num_channels; ++c) {
        const auto channel = static_cast<std::uint16_t>(c);
        if (IsMarked(scores[c])) std::memcpy(channels++, &channel, sizeof(channel));
      }
    }
    scores += num_channels;
  }
}

}  // namespace

void ForgetPlan(const Tables& exported, const Buffers& buffers) {
  Tables* chosen = PlanTables(buffers);
  *chosen = exported;
  chosen->trained = PlanLayers(buffers);
  chosen->num_trained = 0;
}

Status ChoosePlan(const Tables& exported, const TrainingSettings& settings, const Buffers& buffers, const Room& room,
                  std::uint32_t backward_macs, bool samples_in_flash) {
  Filling filling(exported, settings, buffers, room, backward_macs, samples_in_flash);
  const std::int32_t* counts = filling.Run();
  filling.Apply();
  if (PlanTables(buffers)->num_trained == 0) return Status::kNothingFits;
  ListChannels(exported, counts, buffers);
  return Status::kOk;
}

}  // namespace tinytrain
