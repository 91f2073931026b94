// The errors of the library.
#ifndef TINYTRAIN_STATUS_H_
#define TINYTRAIN_STATUS_H_

#include <cstdint>

namespace tinytrain {

enum class Status : std::uint8_t {
  kOk = 0,
  kVersionMismatch,   // tables or delta of another format version
  kInvalidTables,     // an index, size or pointer in the tables is out of range
  kArenaTooSmall,     // fewer bytes than RequiredBytes
  kArenaMisaligned,   // the arena must be aligned to 16 bytes
  kInvalidSettings,   // a setting is out of range
  kLabelOutOfRange,   // label < 0 or >= num_classes
  kFull,              // max_samples are stored already
  kNotEnoughSamples,  // a class has no sample, or there is only one class
  kModelFailed,       // a function of Model returned false
  kNotTrained,        // nothing is learned yet: Train, Solve or LoadDelta first
  kBufferTooSmall,    // the output does not hold the delta: see DeltaBytes
  kDeltaCorrupt,      // cut short, altered, or not a delta
  kDeltaForeign,      // a delta of another base model or plan
  kFlashUnfit,        // the flash is too small, or its size is no multiple of pages and blocks
  kFlashFailed,       // the flash could not be erased or written
  kNotSelected,       // no channels were chosen yet: Select or Train first
  kNothingFits,       // the budget is too small for one channel of any candidate
  kScoresNotFinite,   // a candidate's Fisher information exceeds float32
  kNothingOlder,      // the older slot holds no delta to go back to
};

// A sentence for people; never nullptr.
const char* StatusText(Status status);

}  // namespace tinytrain

#endif  // TINYTRAIN_STATUS_H_
