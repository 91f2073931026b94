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
//   1   length n of the name, then n bytes of the name (UTF-8): the Keras layer, "prototypes" or "original_prototypes"; of a
//       closed-form head (tinytrain_closed_form.h) "ridge", "original_ridge", "known", "threshold" or "samples"
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
// A record holds the new values, not differences. A delta without records means: as exported.
//
// Two slots in flash, each of Trainer::DeltaBytes(), and of a closed-form head's record "samples", rounded up to pages. A power
// cut at any byte of these leaves what was saved before, or what is saved after:
//   Trainer::SaveDelta(slots)     writes the next sequence number into the slot that NewestDelta does not name. Nothing is
//                                 written if the newer slot has the same records
//   Trainer::UndoSave(slots)      erases the newer slot, if the older one holds a delta
//   Trainer::FactoryReset(slots)  erases the older slot, then the newer one
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

// Passes the bytes of a delta on to `put`, see DeltaWriter.
void PutDelta(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, std::uint32_t sequence,
              void (*put)(void* context, const std::uint8_t* bytes, std::size_t count), void* context);

// Two slots of deltas, read once when it is made.
class DeltaSlots {
 public:
  explicit DeltaSlots(const Flash& flash);

  // False: the flash has no two slots of whole pages, and is not read.
  bool fit() const { return fit_; }
  // The slot of the newer delta; kNone: neither holds one. The other slot, which is written next.
  std::int32_t newest() const { return newest_; }
  std::int32_t older() const { return newest_ == 0 ? 1 : 0; }
  // Complete deltas, 0 to 2.
  std::int32_t num_deltas() const;
  std::size_t slot_bytes() const { return slot_bytes_; }
  const std::uint8_t* Slot(std::int32_t slot) const { return flash_.data + Offset(slot); }

  // Whether the newer slot has these records.
  bool Holds(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers) const;
  Status Write(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers) const;
  Status Erase(std::int32_t slot) const;

 private:
  std::size_t Offset(std::int32_t slot) const { return slot == 1 ? slot_bytes_ : 0; }

  const Flash& flash_;
  std::size_t slot_bytes_;
  bool fit_;
  std::int32_t newest_;
  std::uint32_t sequence_ = 0;
};

// Whether a delta that ReadDelta has accepted holds no record.
bool IsEmptyDelta(const std::uint8_t* data);

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
