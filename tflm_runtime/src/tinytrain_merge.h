// Two saved deltas of one base model into one. keras_tinytrain.Delta.merge and .diff (Python) give the same bytes.
//
//   merge: every channel of either; of those in both, the later one's values.
//   diff:  the later one's channels that the earlier one does not hold with the same values: what to send to a device that has
//          the earlier one already. Merged with that, it gives what merging the later one would.
//
// Records stand in the order of the earlier delta, behind them those that only the later one has; a record without channels is
// left away. The sequence number is the later one's. To go back to the base model: Trainer::Revert.
#ifndef TINYTRAIN_MERGE_H_
#define TINYTRAIN_MERGE_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_status.h"

namespace tinytrain {

// Writes to `data`, which overlaps neither delta; nullptr only measures. `written`, which may be nullptr, is the size of the
// result, also where it is kBufferTooSmall. kDeltaForeign: the deltas belong to different base models, or hold values of
// different kinds of the same layer.
Status MergeDeltas(const std::uint8_t* earlier, std::size_t earlier_bytes, const std::uint8_t* later, std::size_t later_bytes,
                   std::uint8_t* data, std::size_t data_bytes, std::size_t* written);
Status DiffDeltas(const std::uint8_t* earlier, std::size_t earlier_bytes, const std::uint8_t* later, std::size_t later_bytes,
                  std::uint8_t* data, std::size_t data_bytes, std::size_t* written);

}  // namespace tinytrain

#endif  // TINYTRAIN_MERGE_H_
