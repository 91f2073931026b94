// What was learned, as bytes: the changed channels and the prototypes. keras_tinytrain.Delta (Python) reads and writes it, too.
//
// Little-endian, no padding (read with memcpy):
//   0   4   "TTDL"
//   4   2   format version, kDeltaVersion
//   6   2   number of records
//   8   4   sequence number: the higher of two is the newer
//   12  4   length in bytes of everything, the CRC included
//   16  32  SHA-256 of the base model; the delta fits no other
//   48      records
//   end-4 4 CRC-32 (polynomial 0xEDB88320, as zlib) of all before
// A record:
//   1   length n of the name, then n bytes of the name (UTF-8): the Keras layer, "prototypes" or "original_prototypes"
//   1   value type: 0 = float32 values and biases; 1 = int8 values and int32 biases, on the base model's scales
//   1   flags: 1 = a bias per channel follows the values; 2 = behind them the base model's values (and biases) of the same
//       channels, which Python writes to revert by and the device passes over
//   4   values per channel
//   2   number of channels
//   2 * channels                 their indices, ascending
//   channels * values * size     channel by channel; convolution: [kernel_height][kernel_width][in]; depthwise:
//                                [kernel_height][kernel_width]; dense: [in]; prototypes: [embedding]
//   channels * 4                 biases, if any
// A record holds the new values, not differences.
//
// Two slots in flash, each of Trainer::DeltaBytes() rounded up to whole pages: Trainer::SaveDelta(slots) writes the next
// sequence number into the one that NewestDelta does not name. Power lost at any byte leaves the old delta or the new one.
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
constexpr char kPrototypesName[] = "prototypes";                   // no layer may be called so, nor
constexpr char kOriginalPrototypesName[] = "original_prototypes";  // where predictions are averaged with the original weights'
constexpr std::uint8_t kDeltaMagic[4] = {'T', 'T', 'D', 'L'};

// Whether a complete delta begins at `data`, of at most `data_bytes`; its sequence number (may be nullptr).
Status CheckDelta(const std::uint8_t* data, std::size_t data_bytes, std::uint32_t* sequence);

// 0 or 1, the slot whose delta is complete and the newer of two (sequence numbers may wrap); kNone if neither is complete.
std::int32_t NewestDelta(const std::uint8_t* slot_0, const std::uint8_t* slot_1, std::size_t slot_bytes);

// Bytes of one of the two slots that a flash holds: half of its pages.
std::size_t DeltaSlotBytes(const Flash& slots);

// Below: what Trainer is made of.

// Whether two names of at most kMaxNameBytes are equal.
bool SameName(const char* a, const char* b);

// One record per trained layer as int8; with Head::kPrototypes, one of prototypes as float32 and, where settings.average > 0,
// one of the original prototypes.
std::size_t DeltaSize(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers);
void WriteDelta(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, std::uint32_t sequence,
                std::uint8_t* data);
Status WriteDeltaSlot(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, const Flash& slots);

// Which prototypes a delta holds.
struct PrototypesFound {
  bool adapted;
  bool original;
};

// Reads a delta into weights, masters and prototypes (`apply`), or only checks that all of it fits. Original prototypes are
// passed over where they are not averaged with.
Status ReadDelta(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, const std::uint8_t* data,
                 std::size_t data_bytes, bool apply, PrototypesFound* found);

// The layers of a delta that ReadDelta has found to fit the candidates, in their order, with their channels unless `channels`
// is nullptr. Returns how many; kNone if one comes twice.
std::int32_t ReadPlan(const Tables& exported, const std::uint8_t* data, TrainedLayer* layers, std::uint16_t* channels);

}  // namespace tinytrain

#endif  // TINYTRAIN_DELTA_H_
