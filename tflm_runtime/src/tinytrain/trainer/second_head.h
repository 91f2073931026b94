// A head beside the tables' own, as function pointers: only a program that names one has its code (tinytrain_closed_form.h).
#ifndef TINYTRAIN_SECOND_HEAD_H_
#define TINYTRAIN_SECOND_HEAD_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_status.h"

namespace tinytrain {

class DeltaWriter;
struct Record;

struct Port;

struct SecondHead {
  bool answers;    // whether Predict asks it: false once weights or samples' prototypes have changed without `update`
  bool is_enough;  // whether the last `update` got every sample right that was left out of its solution
  bool chooses;    // whether `update` may leave the answers to the prototypes: then Train begins with it, and
                   // trains by the next two where it did
  std::int32_t prototype_iterations;
  bool late_prototypes;
  bool knows_original;       // whether it was solved for the stored samples with the original weights
  std::int32_t num_records;  // that it has in a delta while it answers, and their bytes
  std::size_t record_bytes;
  std::int32_t slot_records;  // further ones in a slot of flash, and their bytes
  std::size_t slot_bytes;
  bool is_unknown;          // whether what it predicted last is of no class
  std::int32_t num_labels;  // of a sample: num_classes, and one more where samples of no class are kept
  const char* commands;     // ", TRAIN" and the names of those that it obeys, each after ", "

  // Computes both heads from the stored samples, in place of Trainer::UpdatePrototypes.
  Status (*update)(SecondHead* self);
  // Writes Buffers::logits for the features of one sample, in Buffers::features.
  Status (*predict)(SecondHead* self);
  void (*put)(const SecondHead* self, DeltaWriter* writer, bool in_slot);
  // Reads a record (`apply`), or only checks it. kDeltaForeign: it is none of this head's.
  Status (*take)(SecondHead* self, const Record& record, bool apply);
  // A line from the serial port (tinytrain_serial.h). True: it was this head's, and is answered. Before the answer to STATUS it
  // may add a line of its own.
  bool (*obey)(SecondHead* self, const char* line, const Port& port);
};

}  // namespace tinytrain

#endif  // TINYTRAIN_SECOND_HEAD_H_
