// A delta: the changed channels and the prototypes, as bytes. keras_tinytrain.Delta (Python) reads and writes it, too.
//
// Little-endian, no padding (read with memcpy):
//   0   4   "TTDL"
//   4   2   format version, kDeltaVersion
//   6   2   number of records
//   8   4   sequence number: of two deltas, the higher one is newer
//   12  4   length of the delta in bytes, CRC included
//   16  32  SHA-256 of the base model; the delta fits no other
//   48      records
//   end-4 4 CRC-32 (polynomial 0xEDB88320, as zlib) of all bytes before it
// A record:
//   1   length n of the name, then n bytes of the name (UTF-8): the Keras layer, "prototypes" or "original_prototypes"
//   1   value type: 0 = float32 values and biases; 1 = int8 values and int32 biases, on the base model's scales;
//       2 = float64 values and biases, which Keras alone writes and reads
//   1   flags: 1 = a bias per channel follows the values; 2 = the base model's values (and biases) of the same channels follow
//       them. Python writes these to be able to revert; the device skips them
//   4   values per channel
//   2   number of channels
//   2 * channels                 their indices, ascending
//   channels * values * size     channel by channel; convolution: [kernel_height][kernel_width][in]; depthwise:
//                                [kernel_height][kernel_width]; dense: [in]; prototypes: [embedding]
//   channels * 4                 biases, if any
// A record holds the new values, not differences.
//
// Two slots in flash, each of Trainer::DeltaBytes() rounded up to pages: Trainer::SaveDelta(slots) writes the next sequence
// number into the slot that NewestDelta does not name. A power cut at any byte leaves the old delta or the new one.
#ifndef TINYTRAIN_DELTA_H_
#define TINYTRAIN_DELTA_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_flash.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain_status.h"
#include "tinytrain_tables.h"

namespace tinytrain {

constexpr std::uint16_t kDeltaVersion = 1;
constexpr std::int32_t kMaxNameBytes = 255;
// Names of records that no layer may have. The second: where predictions are averaged with those of the original weights.
constexpr char kPrototypesName[] = "prototypes";
constexpr char kOriginalPrototypesName[] = "original_prototypes";
constexpr std::uint8_t kDeltaMagic[4] = {'T', 'T', 'D', 'L'};

// Whether a complete delta begins at `data`, of at most `data_bytes`; its sequence number (may be nullptr).
Status CheckDelta(const std::uint8_t* data, std::size_t data_bytes, std::uint32_t* sequence);

// The slot, 0 or 1, with the newer complete delta (sequence numbers may wrap); kNone if neither is complete.
std::int32_t NewestDelta(const std::uint8_t* slot_0, const std::uint8_t* slot_1, std::size_t slot_bytes);

// Bytes of one of the two slots that a flash holds: half of its pages.
std::size_t DeltaSlotBytes(const Flash& slots);

// The functions below are Trainer's.

// Whether two names of at most kMaxNameBytes are equal.
bool SameName(const char* a, const char* b);

// One int8 record per trained layer. Head::kPrototypes: one float32 record of prototypes and, if settings.average > 0, one of
// the original prototypes.
std::size_t DeltaSize(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers);
void WriteDelta(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, std::uint32_t sequence,
                std::uint8_t* data);
Status WriteDeltaSlot(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, const Flash& slots);

// The prototypes that a delta holds.
struct PrototypesFound {
  bool adapted;
  bool original;
};

// Reads a delta into weights, masters and prototypes (`apply`), or only checks that all of it fits. Original prototypes are
// skipped if settings.average is 0.
Status ReadDelta(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, const std::uint8_t* data,
                 std::size_t data_bytes, bool apply, PrototypesFound* found);

// The layers of a delta that ReadDelta has accepted, in the candidates' order, with their channels unless `channels` is
// nullptr. Returns the number of layers; kNone if a layer comes twice.
std::int32_t ReadPlan(const Tables& exported, const std::uint8_t* data, TrainedLayer* layers, std::uint16_t* channels);

}  // namespace tinytrain

#endif  // TINYTRAIN_DELTA_H_
