// Kernels, trainer and deltas on random data, for the address and undefined behaviour sanitizers. Prints what it did.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "random_model.h"
#include "tinytrain_delta.h"
#include "tinytrain/trainer/head.h"
#include "tinytrain/kernels/kernels.h"
#include "tinytrain/kernels/pooling.h"

extern "C" const void* tinytrain_tables();

namespace {

using hostile::Bytes;
using hostile::RandomBytes;
using tinytrain::Status;

#define EXPECT(condition)                                          \
  do {                                                             \
    if (!(condition)) {                                            \
      std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
      std::abort();                                                \
    }                                                              \
  } while (false)

std::mt19937 generator(1);

std::int32_t Between(std::int32_t lowest, std::int32_t highest) {
  return std::uniform_int_distribution<std::int32_t>(lowest, highest)(generator);
}

// Ordinary floats, zeros, and now and then what a training that diverged would hand on.
std::vector<float> RandomFloats(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  const float extremes[] = {0.0f, std::numeric_limits<float>::max(), std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::denorm_min()};
  for (auto& value : values) {
    const std::int32_t kind = Between(0, 40);
    value = kind < 5 ? extremes[kind] : std::normal_distribution<float>()(generator);
  }
  return values;
}

tinytrain::WindowShape RandomShape(bool depthwise) {
  tinytrain::WindowShape s;
  s.input_height = Between(1, 9);
  s.input_width = Between(1, 9);
  s.input_channels = Between(1, 9);
  s.output_channels = depthwise ? s.input_channels : Between(1, 9);
  s.kernel_height = Between(1, 5);
  s.kernel_width = Between(1, 5);
  s.stride_height = Between(1, 3);
  s.stride_width = Between(1, 3);
  s.pad_top = Between(0, s.kernel_height - 1);
  s.pad_left = Between(0, s.kernel_width - 1);
  s.output_height = Between(1, (s.input_height - 1 + s.pad_top) / s.stride_height + 1);
  s.output_width = Between(1, (s.input_width - 1 + s.pad_left) / s.stride_width + 1);
  return s;
}

std::vector<std::uint16_t> RandomChannels(std::int32_t output_channels) {
  std::vector<std::uint16_t> channels;
  for (std::int32_t c = 0; c < output_channels; ++c) {
    if (Between(0, 1) == 1 || (channels.empty() && c == output_channels - 1)) channels.push_back(static_cast<std::uint16_t>(c));
  }
  return channels;
}

void RunKernels() {
  for (const bool depthwise : {false, true}) {
    const tinytrain::WindowShape s = RandomShape(depthwise);
    const std::int32_t in_pixels = s.input_height * s.input_width, out_pixels = s.output_height * s.output_width;
    const std::int32_t window = s.kernel_height * s.kernel_width * (depthwise ? 1 : s.input_channels);
    const std::vector<std::uint16_t> channels = RandomChannels(s.output_channels);
    const tinytrain::ChannelList list = {channels.data(), static_cast<std::int32_t>(channels.size())};
    const auto d_output = RandomFloats(out_pixels * s.output_channels), scales = RandomFloats(s.output_channels);
    const Bytes kernel = RandomBytes(&generator, static_cast<std::size_t>(window * s.output_channels));
    const Bytes input = RandomBytes(&generator, static_cast<std::size_t>(in_pixels * s.input_channels));
    auto d_input = RandomFloats(in_pixels * s.input_channels), d_kernel = RandomFloats(list.num_channels * window);
    auto d_bias = RandomFloats(list.num_channels);
    float* bias = Between(0, 1) == 1 ? d_bias.data() : nullptr;
    const std::int32_t zero_point = Between(-128, 127);
    if (depthwise) {
      tinytrain::DepthwiseBackwardInput(d_input.data(), d_output.data(), kernel.data(), scales.data(), s);
      tinytrain::DepthwiseBackwardKernel(d_kernel.data(), bias, d_output.data(), input.data(), zero_point, list, s);
      tinytrain::AveragePoolBackward(d_input.data(), d_output.data(), s);
      tinytrain::MaxPoolBackward(d_input.data(), d_output.data(), input.data(), s);
      continue;
    }
    tinytrain::ConvBackwardInput(d_input.data(), d_output.data(), kernel.data(), scales.data(), s);
    tinytrain::ConvBackwardKernel(d_kernel.data(), bias, d_output.data(), input.data(), zero_point, list, s);
    auto d_pixels = RandomFloats(out_pixels * s.input_channels), d_rows = RandomFloats(list.num_channels * s.input_channels);
    const Bytes pixels = RandomBytes(&generator, d_pixels.size());
    auto d_scaled = d_output;
    tinytrain::PointwiseBackwardInput(d_pixels.data(), d_scaled.data(), kernel.data(), scales.data(), out_pixels,
                                      s.input_channels, s.output_channels);
    tinytrain::PointwiseBackwardKernel(d_rows.data(), bias, d_output.data(), pixels.data(), zero_point, list, out_pixels,
                                       s.input_channels, s.output_channels);
  }
}

void RunHead() {
  const std::int32_t num_classes = Between(1, 6), dimension = Between(1, 9);
  const auto embedding = RandomFloats(dimension), prototypes = RandomFloats(num_classes * dimension);
  auto logits = RandomFloats(num_classes), d_embedding = RandomFloats(dimension);
  tinytrain::CosineLogits(logits.data(), embedding.data(), prototypes.data(), 10.0f, num_classes, dimension);
  tinytrain::SoftmaxCrossEntropy(logits.data(), Between(0, num_classes - 1), num_classes);
  tinytrain::CosineBackward(d_embedding.data(), logits.data(), embedding.data(), prototypes.data(), 10.0f, num_classes,
                            dimension);
}

// Flash of whole pages, in exactly as many bytes, whose writes can only clear bits.
struct RandomFlash {
  explicit RandomFlash(std::size_t bytes) : page(256 * static_cast<std::size_t>(Between(1, 4))) {
    const Bytes content = RandomBytes(&generator, tinytrain::RoundUpTo(page, bytes));
    data.assign(content.begin(), content.end());
  }
  tinytrain::Flash flash() { return {this, data.data(), data.size(), page, &Erase, &Write}; }
  static bool Erase(void* context, std::size_t offset) {
    auto* self = static_cast<RandomFlash*>(context);
    std::fill_n(self->data.begin() + static_cast<std::ptrdiff_t>(offset), self->page, std::uint8_t{0xff});
    return true;
  }
  static bool Write(void* context, std::size_t offset, const std::uint8_t* block) {
    EXPECT(reinterpret_cast<std::uintptr_t>(block) % 16 == 0);
    for (std::size_t i = 0; i < 256; ++i) static_cast<RandomFlash*>(context)->data[offset + i] &= block[i];
    return true;
  }
  std::size_t page;
  std::vector<std::uint8_t> data;
};

// A whole life of a trainer in exactly the bytes it asked for, samples in RAM or flash, its scratch in the arena or apart; the
// delta that came of it. With candidates: in a random number of bytes more, for what it chooses; none where nothing fits.
std::vector<std::uint8_t> RunTrainer(const tinytrain::Tables& tables) {
  tinytrain::TrainingSettings settings = tables.training;
  settings.optimizer = static_cast<tinytrain::Optimizer>(Between(0, 4));
  settings.weights = static_cast<tinytrain::WeightStorage>(Between(0, 1));
  settings.updates = static_cast<tinytrain::Updates>(Between(0, 1));
  settings.leave_one_out = Between(0, 1) == 1;
  settings.late_prototypes = Between(0, 1) == 1;
  settings.skip_loss = 0.1f * static_cast<float>(Between(0, 10));
  settings.average = Between(0, 1) == 1 ? 0.5f : 0.0f;
  settings.learning_rate = Between(0, 3) == 0 ? 1e30f : 0.05f;  // weights overflow, and must be clipped
  settings.iterations = Between(0, 3);
  settings.max_samples = Between(3, 9);
  hostile::RandomModel model(tables, static_cast<std::uint32_t>(generator()));
  const bool in_flash = Between(0, 1) == 1, shares = Between(0, 1) == 1;
  tinytrain::MemoryParts parts;
  tinytrain::Trainer::RequiredBytes(tables, settings, &parts, in_flash);
  const bool chooses = tables.candidates.num_layers > 0;
  const auto more = [chooses] { return static_cast<std::size_t>(chooses ? 16 * Between(0, 200) : 0); };
  hostile::GuardedArena arena((shares ? parts.state : parts.total) + more()), scratch(parts.scratch + more());
  RandomFlash samples(tinytrain::FlashSamplesBytes(tables, settings));
  const tinytrain::Flash sample_flash = samples.flash();
  const tinytrain::Flash* flash = in_flash ? &sample_flash : nullptr;
  tinytrain::Model with_scratch = model.model();
  if (shares) {
    with_scratch.scratch = scratch.data();
    with_scratch.scratch_bytes = parts.scratch - 1;
    tinytrain::Trainer refused;
    EXPECT(refused.Init(tables, settings, with_scratch, arena.data(), arena.size(), flash) == Status::kArenaTooSmall);
    with_scratch.scratch_bytes = scratch.size();
  }
  tinytrain::Trainer trainer;
  const std::size_t least = shares ? parts.state : parts.total;
  EXPECT(trainer.Init(tables, settings, with_scratch, arena.data(), least - 1, flash) == Status::kArenaTooSmall);
  EXPECT(trainer.Init(tables, settings, with_scratch, arena.data() + 4, arena.size(), flash) == Status::kArenaMisaligned);
  EXPECT(trainer.Init(tables, settings, with_scratch, arena.data(), arena.size(), flash) == Status::kOk);
  const Bytes image =
      RandomBytes(&generator, static_cast<std::size_t>(tables.image_height * tables.image_width * tables.image_channels));
  for (std::int32_t i = 0; i < settings.max_samples; ++i) {
    EXPECT(trainer.AddSample(image.data(), i % settings.num_classes) == Status::kOk);
  }
  EXPECT(trainer.AddSample(image.data(), 0) == Status::kFull);
  const Status trained = trainer.Train(nullptr, nullptr);
  if (chooses && trained == Status::kNothingFits) return {};
  EXPECT(trained == Status::kOk);
  EXPECT(trainer.Predict(image.data(), nullptr, nullptr) == Status::kOk);
  std::vector<std::uint8_t> delta(trainer.DeltaBytes());
  EXPECT(trainer.SaveDelta(1, delta.data(), delta.size() - 1, nullptr) == Status::kBufferTooSmall);
  EXPECT(trainer.SaveDelta(1, delta.data(), delta.size(), nullptr) == Status::kOk);
  RandomFlash slots(2 * tinytrain::RoundUpTo(1024, delta.size()));
  if (2 * tinytrain::DeltaSlotBytes(slots.flash()) == slots.data.size()) {  // pages go up in two slots
    EXPECT(trainer.SaveDelta(slots.flash()) == Status::kOk);
    // After no iteration a classifier is as exported: then the slot holds a delta without records.
    EXPECT(trainer.IsAsExported() || std::equal(delta.begin(), delta.end(), slots.data.begin()));
    EXPECT(trainer.IsSaved(slots.flash()));
  }
  for (std::int32_t i = 0; i < 20; ++i) {  // altered and cut short: refused, and nothing is read outside
    std::vector<std::uint8_t> damaged(delta.begin(), delta.begin() + Between(0, static_cast<std::int32_t>(delta.size())));
    if (!damaged.empty()) damaged[static_cast<std::size_t>(Between(0, static_cast<std::int32_t>(damaged.size()) - 1))] ^= 0x10;
    EXPECT(trainer.LoadDelta(damaged.data(), damaged.size()) != Status::kOk);
  }
  trainer.Revert();
  const Status loaded = trainer.LoadDelta(delta.data(), delta.size());
  EXPECT(loaded == Status::kOk || (loaded == Status::kDeltaCorrupt && settings.learning_rate > 1.0f));  // not finite
  return delta;
}

}  // namespace

int main() {
  const auto& tables = *static_cast<const tinytrain::Tables*>(tinytrain_tables());
  for (std::int32_t i = 0; i < 2000; ++i) RunKernels();
  for (std::int32_t i = 0; i < 2000; ++i) RunHead();
  std::vector<std::uint8_t> delta;
  for (std::int32_t i = 0; i < 60; ++i) {
    const std::vector<std::uint8_t> learned = RunTrainer(tables);
    if (!learned.empty()) delta = learned;
  }
  std::fwrite(delta.data(), 1, delta.size(), stdout);
  return 0;
}
