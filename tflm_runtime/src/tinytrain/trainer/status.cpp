#include "tinytrain_status.h"

namespace tinytrain {

const char* StatusText(Status status) {
  switch (status) {
    case Status::kOk: return "ok";
    case Status::kVersionMismatch: return "the tables or the delta are of another version";
    case Status::kInvalidTables: return "an index, size or pointer in the tables is out of range";
    case Status::kArenaTooSmall: return "the arena is smaller than RequiredBytes";
    case Status::kArenaMisaligned: return "the arena is not aligned to 16 bytes";
    case Status::kInvalidSettings: return "a training setting is out of range";
    case Status::kLabelOutOfRange: return "the label is negative or not below num_classes";
    case Status::kFull: return "max_samples are stored already; call ClearSamples first";
    case Status::kNotEnoughSamples: return "every class needs a stored sample, and there must be two classes";
    case Status::kModelFailed: return "a function of the model failed";
    case Status::kNotTrained:
      return "nothing is learned yet, or not by the original weights: train, solve or load a delta first";
    case Status::kBufferTooSmall: return "the delta takes DeltaBytes, the buffer has less";
    case Status::kDeltaCorrupt: return "the delta is cut short, altered, or not a delta";
    case Status::kDeltaForeign: return "the delta is of another base model or plan";
    case Status::kFlashUnfit: return "the flash is too small, or not made of whole pages";
    case Status::kNotSelected: return "nothing was chosen to be trained; call Select or Train first";
    case Status::kNothingFits: return "the budget is too small to train one channel of any candidate";
    case Status::kScoresNotFinite: return "a candidate's Fisher information is too large for a float";
    case Status::kNothingOlder: return "no older delta is saved";
    case Status::kFlashFailed: return "the flash could not be erased or written; call ClearSamples if it holds samples";
  }
  return "unknown status";
}

}  // namespace tinytrain
