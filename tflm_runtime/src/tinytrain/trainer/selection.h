// The device's choice of layers and channels to train: TinyTrain's criterion and budgeted choice over Fisher scores.
//
// Layers are taken in decreasing score, each with as many of its best channels as fit both budgets. A layer of which less than
// an eighth fits lets those pass that are worth more, by their score times the share of their channels that fits. The rest of
// the budgets is filled at the end. keras_tinytrain.choose makes the same choice for the same scores and costs. Costs are
// exact: bytes by MeasureParts, multiply-accumulates by BackwardMacs. A plan costs the same on 32 and 64 bits, so that host and
// board choose alike.
#ifndef TINYTRAIN_SELECTION_H_
#define TINYTRAIN_SELECTION_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain/memory/memory.h"
#include "tinytrain_status.h"
#include "tinytrain_tables.h"

namespace tinytrain {

constexpr std::int32_t kMaxCandidates = 64;

// The limits of a plan's cost. 0: no limit of its own.
struct Budget {
  std::size_t arena_bytes = 0;      // of the trainer's arena
  std::uint32_t backward_macs = 0;  // of one sample's backward pass; 0: Candidates::backward_macs
};

// The trainer's memory: `state` and `scratch` parts lie apart or, if scratch_bytes is 0, one after the other.
struct Room {
  std::size_t arena_bytes;
  std::size_t scratch_bytes;

  bool Holds(const MemoryParts& parts) const {
    if (scratch_bytes == 0) return parts.total <= arena_bytes;
    return parts.state <= arena_bytes && parts.scratch <= scratch_bytes;
  }
};

// Makes PlanTables a copy of `exported` in which no layer is trained yet.
void ForgetPlan(const Tables& exported, const Buffers& buffers);

// Chooses by the candidates' scores in PlanScores, and writes the plan to PlanTables, PlanLayers and, over the scores,
// PlanChannels. kNothingFits: not one channel of any candidate fits; no layer is trained.
Status ChoosePlan(const Tables& exported, const TrainingSettings& settings, const Buffers& buffers, const Room& room,
                  std::uint32_t backward_macs, bool samples_in_flash);

}  // namespace tinytrain

#endif  // TINYTRAIN_SELECTION_H_
