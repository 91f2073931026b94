// Instructions of a task by part, and a Model that counts its own.
#ifndef TINYTRAIN_FIRMWARE_METER_H_
#define TINYTRAIN_FIRMWARE_METER_H_

#include <cstdint>

#include "board.h"
#include "tinytrain.h"

// kSamples and later ones are the task's. Those before are waiting for the host, predictions, and work done only to measure.
enum Part { kIdle, kProbe, kSamples, kFrozen, kTrainable, kSelection, kTraining, kNumParts };

// The part that runs now, and the instructions of each part until it began.
struct Meter {
  Part part = kIdle;
  std::uint64_t since = 0;
  std::uint64_t spent[kNumParts] = {};
  std::uint32_t calls[kNumParts] = {};

  Part Switch(Part next);  // returns the part that ran until now
};
extern Meter meter;

// A part of the task while it lives; kIdle where its caller is no part of the task.
class Measured {
 public:
  explicit Measured(Part part);
  ~Measured();
  Measured(const Measured&) = delete;
  Measured& operator=(const Measured&) = delete;

  // The run of a model in this part.
  void CountCall() const {
    if (caller_ > kProbe) ++meter.calls[meter.part];
  }

 private:
  Part caller_;
};

// Opens the bundle's model. What its functions take, opening an interpreter included, is the frozen or the trainable part's.
bool OpenMeasured(tinytrain::Model* measured);

#endif  // TINYTRAIN_FIRMWARE_METER_H_
