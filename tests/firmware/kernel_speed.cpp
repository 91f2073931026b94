// Instructions of one kernel on one shape, chosen by macros: KERNEL is a statement, the sizes are compile-time constants.
#include <cstdint>

#include "board.h"
#include "tinytrain_kernels.h"

namespace {

constexpr tinytrain::WindowShape kShape = {SHAPE};
constexpr std::int32_t kInput = kShape.input_height * kShape.input_width * kShape.input_channels;
constexpr std::int32_t kOutput = kShape.output_height * kShape.output_width * kShape.output_channels;
constexpr std::int32_t kPixels = kShape.input_height * kShape.input_width;

float d_input[kInput], d_output[kOutput], d_kernel[NUM_WEIGHTS], scales[kShape.output_channels];
std::int8_t input[kInput], kernel[NUM_WEIGHTS];
std::uint16_t channels[NUM_CHANNELS];

std::uint32_t Random() {
  static std::uint32_t state = 1;
  return state = state * 1664525u + 1013904223u;
}

}  // namespace

int main() {
  for (float& x : d_output) x = static_cast<float>(Random() >> 8) * 1e-7f - 0.5f;
  for (float& x : scales) x = 0.01f;
  for (std::int8_t& x : input) x = static_cast<std::int8_t>(Random() >> 24);
  for (std::int8_t& x : kernel) x = static_cast<std::int8_t>(Random() >> 24);
  for (std::int32_t i = 0; i < NUM_CHANNELS; ++i) {
    channels[i] = static_cast<std::uint16_t>(i * kShape.output_channels / NUM_CHANNELS);
  }
  const tinytrain::ChannelList list = {channels, NUM_CHANNELS};
  (void)list;
  (void)kPixels;
  const std::uint64_t begin = board::Instructions();
  KERNEL;
  const std::uint64_t spent = board::Instructions() - begin;
  board::Write(&spent, sizeof(spent));
  return 0;
}
