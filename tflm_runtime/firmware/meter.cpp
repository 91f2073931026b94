#include "meter.h"

#include "bundle.h"

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

Measured::Measured(Part part) : caller_(meter.Switch(meter.part > kProbe ? part : kIdle)) {}
Measured::~Measured() { meter.Switch(caller_); }

namespace {

tinytrain::Model model;  // the real one

bool RunFrozen(void*, const std::int8_t* image, std::int8_t* features) {
  const Measured part(kFrozen);
  part.CountCall();
  return model.run_frozen(model.context, image, features);
}

bool RunTrainable(void*, const std::int8_t* features, const std::int8_t** outputs) {
  const Measured part(kTrainable);
  part.CountCall();
  return model.run_trainable(model.context, features, outputs);
}

bool Bind(void*, std::int32_t tensor_index, const void* data, std::size_t num_bytes) {
  return model.bind(model.context, tensor_index, data, num_bytes);
}

bool OpenTrainable(void*) {
  const Measured part(kTrainable);
  return model.open_trainable(model.context);
}

std::int8_t* FrozenInput(void*) {
  const Measured part(kFrozen);
  return model.frozen_input(model.context);
}

}  // namespace

bool OpenMeasured(tinytrain::Model* measured) {
  if (!OpenModel(&model)) return false;
  *measured = {nullptr, model.run_frozen == nullptr ? nullptr : &RunFrozen, &RunTrainable, &Bind};
  measured->open_trainable = model.open_trainable == nullptr ? nullptr : &OpenTrainable;
  measured->frozen_input = model.frozen_input == nullptr ? nullptr : &FrozenInput;
  measured->scratch = model.scratch;
  measured->scratch_bytes = model.scratch_bytes;
  return true;
}
