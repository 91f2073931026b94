// Takes back a sample. Apart, so that only a program that does it has its code.
#include <cstring>

#include "tinytrain.h"

namespace tinytrain {

void Trainer::RemoveSample(std::int32_t sample) {
  SamplesChanged();
  if (buffers_.samples == nullptr) {
    buffers_.labels[sample] = kForgotten;
    return;
  }
  const std::size_t place_bytes = SampleIndex(1, 0) * static_cast<std::size_t>(buffers_.feature_elements);
  const auto num_after = static_cast<std::size_t>(--num_samples_ - sample);
  std::int8_t* const place = buffers_.samples + static_cast<std::size_t>(sample) * place_bytes;
  std::memmove(place, place + place_bytes, num_after * place_bytes);
  std::memmove(buffers_.labels + sample, buffers_.labels + sample + 1, num_after);
}

}  // namespace tinytrain
