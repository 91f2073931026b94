// Which layers and channels to train, decided on the device: TinyTrain's criterion and budgeted choice over Fisher scores.
//
// Layers in decreasing score, each with as many of its best channels as still fit both budgets; a layer of which less than an
// eighth fits is passed over at first, and what is left of the budgets is filled up at the end. The choice equals
// keras_tinytrain.selection's for the same scores and costs. Costs are exact: bytes as MeasureParts counts them, and
// multiply-accumulates as BackwardMacs does. A plan costs the same on 32 and 64 bits, so that host and board choose alike.
#ifndef TINYTRAIN_SELECTION_H_
#define TINYTRAIN_SELECTION_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain/memory/memory.h"
#include "tinytrain_status.h"
#include "tinytrain_tables.h"

namespace tinytrain {

constexpr std::int32_t kMaxCandidates = 64;

// What a plan may cost; 0 means all that there is.
struct Budget {
  std::size_t arena_bytes = 0;      // of the trainer's arena
  std::uint32_t backward_macs = 0;  // of one sample's backward pass; 0: Candidates::backward_macs
};

// The trainer's memory: `state` and `scratch` parts lie apart or, where scratch_bytes is 0, one behind the other.
struct Room {
  std::size_t arena_bytes;
  std::size_t scratch_bytes;

  bool Holds(const MemoryParts& parts) const {
    if (scratch_bytes == 0) return parts.total <= arena_bytes;
    return parts.state <= arena_bytes && parts.scratch <= scratch_bytes;
  }
};

// The plan of a candidate tables' copy that trains nothing yet: PlanTables, of which `exported` is the original.
void ForgetPlan(const Tables& exported, const Buffers& buffers);

// Chooses by the candidates' scores, which lie in PlanScores, and writes the plan to PlanTables, PlanLayers and, in place of
// the scores, PlanChannels. kNothingFits: not one channel of any candidate does; nothing is trained then.
Status ChoosePlan(const Tables& exported, const TrainingSettings& settings, const Buffers& buffers, const Room& room,
                  std::uint32_t backward_macs, bool samples_in_flash);

}  // namespace tinytrain

#endif  // TINYTRAIN_SELECTION_H_
