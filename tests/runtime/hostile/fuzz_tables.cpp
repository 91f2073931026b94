// libFuzzer: tables with some of their bytes replaced are refused by Init, or can be trained with. Each six bytes of input
// replace a field of a copy of good tables. Pointers stay; kernels get the size that the tables now say.
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "random_model.h"

extern "C" const void* tinytrain_tables();

namespace {

using tinytrain::Status;

constexpr std::size_t kMaxBytes = 1 << 18;  // larger tables are right or wrong in the same way, but slow
constexpr std::int32_t kMaxLength = 64;     // of the arrays that the copy holds
constexpr std::int64_t kMaxSteps = 1 << 17;

// A copy of tables that may be written to.
struct Copy {
  tinytrain::Tables tables;
  std::vector<tinytrain::Tensor> tensors;
  std::vector<tinytrain::Layer> layers;
  std::vector<tinytrain::TrainedLayer> trained;
  std::vector<std::vector<std::uint16_t>> channels;
  std::vector<tinytrain::View> views;

  explicit Copy(const tinytrain::Tables& from)
      : tables(from),
        tensors(from.tensors, from.tensors + from.num_tensors),
        layers(from.layers, from.layers + from.num_layers),
        trained(from.trained, from.trained + from.num_trained),
        views(from.views, from.views + from.num_views) {
    for (const auto& each : trained) {
      channels.emplace_back(each.channels, each.channels + each.num_channels);
      channels.back().resize(kMaxLength, 65535);
    }
    Reserve();
  }
  // The runtime trusts array lengths, which it cannot see: give every array the largest that it accepts.
  void Reserve() {
    tensors.resize(kMaxLength, tensors.back());
    layers.resize(kMaxLength, layers.back());
    views.resize(256);
    tables.tensors = tensors.data();
    tables.layers = layers.data();
    tables.trained = trained.data();
    tables.views = views.data();
    for (std::size_t t = 0; t < trained.size(); ++t) trained[t].channels = channels[t].data();
  }
  bool LengthsAreInReach() const {
    for (const auto& each : trained) {
      if (each.num_channels > kMaxLength) return false;
    }
    return tables.num_tensors <= kMaxLength && tables.num_layers <= kMaxLength &&
           tables.num_trained <= static_cast<std::int32_t>(trained.size());
  }
};

template <typename T>
void Overwrite(T* target, std::size_t bytes, std::size_t at, const std::uint8_t* value) {
  std::memcpy(static_cast<unsigned char*>(static_cast<void*>(target)) + at % (bytes - 3) / 4 * 4, value, 4);
}

// Enumerations and booleans hold one of their values in any tables that a compiler made.
std::uint8_t Modulo(std::uint8_t value, unsigned count) { return static_cast<std::uint8_t>(value % count); }

void Mutate(Copy* copy, const std::uint8_t* edit) {
  const std::uint8_t* value = edit + 2;
  const std::size_t index = edit[1];
  switch (edit[0] % 6) {
    case 0: {
      tinytrain::Tensor& tensor = copy->tensors[index % copy->tensors.size()];
      if (value[0] % 9 == 8) {
        tensor.num_planes = static_cast<std::int8_t>(value[1]) % 20;
      } else {
        Overwrite(&tensor, offsetof(tinytrain::Tensor, num_planes), value[0], value);
      }
      return;
    }
    case 1: {
      tinytrain::Layer& layer = copy->layers[index % copy->layers.size()];
      std::int32_t* const fields[] = {&layer.input,         &layer.input2,       &layer.output,
                                      &layer.kernel_height, &layer.kernel_width, &layer.stride_height,
                                      &layer.stride_width,  &layer.pad_top,      &layer.pad_left};
      const std::size_t field = value[3] % 14;
      if (field < 9) *fields[field] = static_cast<std::int8_t>(value[0]) * (value[1] % 4 == 0 ? 65537 : 1);
      if (field == 9) layer.op = static_cast<tinytrain::Operator>(Modulo(value[0], 24));
      if (field == 10) layer.activation = static_cast<tinytrain::Activation>(Modulo(value[0], 4));
      if (field == 11) layer.accumulate_input = value[0] % 2 == 1;
      if (field == 12) layer.accumulate_input2 = value[0] % 2 == 1;
      if (field == 13) layer.slope = value[0] % 4 == 0 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(value[1]);
      return;
    }
    case 2: {
      tinytrain::TrainedLayer& trained = copy->trained[index % copy->trained.size()];
      std::int32_t* const fields[] = {&trained.layer, &trained.kernel_tensor, &trained.bias_tensor, &trained.num_channels};
      std::memcpy(fields[value[3] % 4], value, 4);
      return;
    }
    case 3: {
      auto& channels = copy->channels[index % copy->channels.size()];
      std::memcpy(&channels[value[2] % 16], value, 2);
      return;
    }
    case 4: {
      tinytrain::Tables& t = copy->tables;
      std::int32_t* const fields[] = {&t.image_height,        &t.image_width,          &t.image_channels,
                                      &t.num_tensors,         &t.num_layers,           &t.num_trained,
                                      &t.num_outputs,         &t.head_output,          &t.num_views,
                                      &t.training.iterations, &t.training.num_classes, &t.training.max_samples};
      if (index % 14 < 12) *fields[index % 14] = static_cast<std::int16_t>(value[0] | (value[1] << 8));
      if (index % 14 == 12) t.gradient_bytes = value[0] | (value[1] << 8u);
      if (index % 14 == 13) t.head = static_cast<tinytrain::Head>(Modulo(value[0], 3));
      return;
    }
    case 5: {
      tinytrain::TrainingSettings& t = copy->tables.training;
      float* const fields[] = {&t.learning_rate, &t.momentum, &t.beta_2, &t.epsilon, &t.logit_scale, &t.average};
      std::memcpy(fields[index % 6], value, 4);
      if (index % 8 != 7) return;
      t.optimizer = static_cast<tinytrain::Optimizer>(Modulo(value[0], 8));
      t.weights = static_cast<tinytrain::WeightStorage>(Modulo(value[1], 3));
      t.updates = static_cast<tinytrain::Updates>(Modulo(value[2], 3));
      t.leave_one_out = value[3] % 2 == 1;
      return;
    }
  }
}

// Kernels, scales and biases on the heap, exactly as large as the tables say. False: too large to be worth it.
class Constants {
 public:
  bool Allocate(Copy* copy) {
    std::int64_t steps = 0;
    for (std::int32_t l = 0; l < copy->tables.num_layers; ++l) {
      tinytrain::Layer& layer = copy->layers[static_cast<std::size_t>(l)];
      const tinytrain::Tensor& output = copy->tensors[static_cast<std::size_t>(layer.output)];
      const std::int64_t window = static_cast<std::int64_t>(layer.kernel_height) * layer.kernel_width;
      steps += static_cast<std::int64_t>(tinytrain::NumElements(output)) * window;
      if (steps > kMaxSteps) return false;
      if (!tinytrain::HasKernel(layer.op)) continue;
      const tinytrain::KernelLayout layout = tinytrain::LayoutOf(copy->tables, layer);
      steps += static_cast<std::int64_t>(tinytrain::NumElements(output)) * layout.weights_per_channel;
      if (steps > kMaxSteps) return false;
      kernels_.emplace_back(
          static_cast<std::size_t>(layout.output_channels) * static_cast<std::size_t>(layout.weights_per_channel), 3);
      scales_.emplace_back(layer.kernel_scales, layer.kernel_scales + layout.output_channels);
      layer.kernel = kernels_.back().data();
      layer.kernel_scales = scales_.back().data();
      if (layer.bias == nullptr) continue;
      biases_.emplace_back(static_cast<std::size_t>(layout.output_channels), 5);
      layer.bias = biases_.back().data();
    }
    for (std::int32_t t = 0; t < copy->tables.num_trained; ++t) {
      tinytrain::TrainedLayer& trained = copy->trained[static_cast<std::size_t>(t)];
      if (trained.kernel == nullptr) continue;
      const tinytrain::KernelLayout layout = tinytrain::LayoutInRam(copy->tables, trained);
      kernels_.emplace_back(
          static_cast<std::size_t>(layout.output_channels) * static_cast<std::size_t>(layout.weights_per_channel), 3);
      trained.kernel = kernels_.back().data();
      if (trained.bias == nullptr) continue;
      biases_.emplace_back(static_cast<std::size_t>(layout.output_channels), 5);
      trained.bias = biases_.back().data();
    }
    return true;
  }

 private:
  std::vector<std::vector<std::int8_t>> kernels_;
  std::vector<std::vector<float>> scales_;
  std::vector<std::vector<std::int32_t>> biases_;
};

void Train(const tinytrain::Tables& tables) {
  tinytrain::MemoryParts parts;
  const std::size_t bytes = tinytrain::Trainer::RequiredBytes(tables, tables.training, &parts);
  if (bytes == 0 || bytes > kMaxBytes) return;
  if (static_cast<std::int64_t>(tables.image_height) * tables.image_width * tables.image_channels > 1 << 18) return;
  hostile::RandomModel model(tables, 1);
  hostile::GuardedArena arena(bytes);
  tinytrain::Trainer trainer;
  if (trainer.Init(tables, tables.training, model.model(), arena.data(), arena.size()) != Status::kOk) std::abort();
  const hostile::Bytes image(static_cast<std::size_t>(tables.image_height * tables.image_width * tables.image_channels), 7);
  const std::int32_t num_samples = tables.training.max_samples < 3 ? tables.training.max_samples : 3;
  for (std::int32_t i = 0; i < num_samples; ++i) trainer.AddSample(image.data(), i % tables.training.num_classes);
  trainer.Step(nullptr);
  trainer.Predict(image.data(), nullptr, nullptr);
  std::vector<std::uint8_t> delta(trainer.DeltaBytes());
  trainer.SaveDelta(1, delta.data(), delta.size(), nullptr);
  trainer.LoadDelta(delta.data(), delta.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<float> scales(65536, 0.01f);
  Copy copy(*static_cast<const tinytrain::Tables*>(tinytrain_tables()));
  for (auto& layer : copy.layers) {
    if (layer.kernel_scales != nullptr) layer.kernel_scales = scales.data();
  }
  for (; size >= 6; data += 6, size -= 6) Mutate(&copy, data);
  copy.Reserve();
  if (!copy.LengthsAreInReach() || tinytrain::CheckTables(copy.tables) != Status::kOk) return 0;
  Constants constants;
  if (constants.Allocate(&copy)) Train(copy.tables);
  return 0;
}
