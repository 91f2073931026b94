// Combines two saved deltas of one base model. keras_tinytrain.Delta.merge and .diff (Python) give the same bytes.
//
//   merge: every channel of either delta; channels in both have the later delta's values.
//   diff:  the later delta's channels, except those that the earlier delta holds with the same values. Send it to a device that
//          has the earlier delta: merge(earlier, diff) equals merge(earlier, later).
//
// Records stand in the order of the earlier delta; records that only the later delta has follow. Records without channels are
// removed. The sequence number is the later delta's. To go back to the base model, call Trainer::Revert.
#ifndef TINYTRAIN_MERGE_H_
#define TINYTRAIN_MERGE_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_status.h"

namespace tinytrain {

// Writes to `data`, which must overlap neither delta; nullptr only measures. `written` (may be nullptr) is the size of the
// result, with kBufferTooSmall, too. kDeltaForeign: the deltas belong to different base models, or hold values of different
// kinds for the same layer.
Status MergeDeltas(const std::uint8_t* earlier, std::size_t earlier_bytes, const std::uint8_t* later, std::size_t later_bytes,
                   std::uint8_t* data, std::size_t data_bytes, std::size_t* written);
Status DiffDeltas(const std::uint8_t* earlier, std::size_t earlier_bytes, const std::uint8_t* later, std::size_t later_bytes,
                  std::uint8_t* data, std::size_t data_bytes, std::size_t* written);

}  // namespace tinytrain

#endif  // TINYTRAIN_MERGE_H_
