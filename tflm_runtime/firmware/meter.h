// Instructions of a task by part, and a Model that counts its own. A part of main.cpp.
#ifndef TINYTRAIN_FIRMWARE_METER_H_
#define TINYTRAIN_FIRMWARE_METER_H_

#include <cstdint>

#include "board.h"
#include "bundle.h"

namespace {

// kSamples and later ones are the task's. Those before are waiting for the host, predictions, and work done only to measure.
enum Part { kIdle, kProbe, kSamples, kFrozen, kTrainable, kSelection, kSolving, kTraining, kNumParts };

// The part that runs now, and the instructions of each part until it began.
struct Meter {
  Part part = kIdle;
  std::uint64_t since = 0;
  std::uint64_t spent[kNumParts] = {};
  std::uint32_t calls[kNumParts] = {};

  Part Switch(Part next);  // returns the part that ran until now
};
Meter meter;

Part Meter::Switch(Part next) {
  const std::uint64_t now = board::Instructions();
  const Part previous = part;
  spent[part] += now - since;
  part = next;
  since = now;
  board::Profile(part > kProbe);
  return previous;
}

tinytrain::Model model;  // the real one

using Work = bool (*)(const std::int8_t* input, void* output);

// Runs a model as a part of the task; as none where its caller is none.
bool Measured(Part part, Work run, const std::int8_t* input, void* output) {
  const bool is_task = meter.part > kProbe;
  const Part caller = meter.Switch(is_task ? part : kIdle);
  if (is_task) ++meter.calls[part];
  const bool good = run(input, output);
  meter.Switch(caller);
  return good;
}

bool RunFrozen(void*, const std::int8_t* image, std::int8_t* features) {
  const Work run = [](const std::int8_t* x, void* y) {
    return model.run_frozen(model.context, x, static_cast<std::int8_t*>(y));
  };
  return Measured(kFrozen, run, image, features);
}

const std::int8_t* RunFrozenInPlace(void*, const std::int8_t* image) {
  const std::int8_t* stored = nullptr;
  const Work run = [](const std::int8_t* x, void* y) {
    const std::int8_t* const found = model.run_frozen_in_place(model.context, x);
    *static_cast<const std::int8_t**>(y) = found;
    return found != nullptr;
  };
  Measured(kFrozen, run, image, &stored);
  return stored;
}

bool RunTrainable(void*, const std::int8_t* features, const std::int8_t** outputs) {
  const Work run = [](const std::int8_t* x, void* y) {
    return model.run_trainable(model.context, x, static_cast<const std::int8_t**>(y));
  };
  return Measured(kTrainable, run, features, outputs);
}

// Opens the bundle's model, whose passes are counted. To open an interpreter counts to the pass or the part that asks for it.
bool OpenMeasured(tinytrain::Model* measured) {
  if (!OpenModel(&model)) return false;
  *measured = model;
  measured->run_trainable = &RunTrainable;
  if (model.run_frozen != nullptr) measured->run_frozen = &RunFrozen;
  if (model.run_frozen_in_place != nullptr) measured->run_frozen_in_place = &RunFrozenInPlace;
  return true;
}

}  // namespace

#endif  // TINYTRAIN_FIRMWARE_METER_H_
