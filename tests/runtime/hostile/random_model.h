// A model whose every answer is random, in buffers of exactly the promised size, so that a sanitizer sees one byte too far.
#ifndef TINYTRAIN_TESTS_RANDOM_MODEL_H_
#define TINYTRAIN_TESTS_RANDOM_MODEL_H_

#include <sanitizer/asan_interface.h>

#include <cstdint>
#include <random>
#include <vector>

#include "tinytrain.h"

namespace hostile {

using Bytes = std::vector<std::int8_t>;

inline Bytes RandomBytes(std::mt19937* random, std::size_t count) {
  Bytes bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::int8_t>((*random)());
  return bytes;
}

class RandomModel {
 public:
  RandomModel(const tinytrain::Tables& tables, std::uint32_t seed) : tables_(tables), random_(seed) {}

  tinytrain::Model model() { return {this, &RunFrozen, &RunTrainable, &Bind}; }

 private:
  static bool RunFrozen(void* context, const std::int8_t* image, std::int8_t* features) {
    auto* self = static_cast<RandomModel*>(context);
    const tinytrain::Tables& t = self->tables_;
    std::int32_t sum = 0;  // reads all of the image, writes all of the features
    for (std::int32_t i = 0; i < t.image_height * t.image_width * t.image_channels; ++i) sum += image[i];
    const std::int32_t count = tinytrain::NumElements(t.tensors[0]);
    for (std::int32_t i = 0; i < count; ++i) {
      features[i] = static_cast<std::int8_t>(self->random_() + static_cast<std::uint32_t>(sum));
    }
    return true;
  }
  static bool RunTrainable(void* context, const std::int8_t*, const std::int8_t** outputs) {
    auto* self = static_cast<RandomModel*>(context);
    self->outputs_.assign(static_cast<std::size_t>(self->tables_.num_outputs), {});
    for (std::int32_t i = 0; i < self->tables_.num_outputs; ++i) {
      Bytes& output = self->outputs_[static_cast<std::size_t>(i)];
      output = RandomBytes(&self->random_, self->OutputBytes(i));
      outputs[i] = output.data();
    }
    return true;
  }
  static bool Bind(void*, std::int32_t, const void* data, std::size_t bytes) {
    const auto* first = static_cast<const volatile char*>(data);
    return bytes == 0 || (first[0] + first[bytes - 1]) < 1024;  // both ends are there
  }

  // Output i holds the largest tensor that is kept there.
  std::size_t OutputBytes(std::int32_t i) const {
    std::int32_t bytes = i == tables_.head_output ? tinytrain::NumElements(tables_.tensors[tables_.num_tensors - 1]) : 0;
    for (std::int32_t t = 0; t < tables_.num_tensors; ++t) {
      const std::int32_t size = tinytrain::NumElements(tables_.tensors[t]);
      if (tables_.tensors[t].kept == i && size > bytes) bytes = size;
    }
    return static_cast<std::size_t>(bytes);
  }

  const tinytrain::Tables& tables_;
  std::mt19937 random_;
  std::vector<Bytes> outputs_;
};

// An arena of exactly so many bytes between guard bytes, which a sanitizer sees read or written.
class GuardedArena {
 public:
  explicit GuardedArena(std::size_t bytes) : bytes_(bytes), memory_(bytes + 2 * kGuardBytes + kAlignment) {
    const auto misaligned = reinterpret_cast<std::uintptr_t>(memory_.data() + kGuardBytes) % kAlignment;
    begin_ = memory_.data() + kGuardBytes + (misaligned == 0 ? 0 : kAlignment - misaligned);
    ASAN_POISON_MEMORY_REGION(memory_.data(), memory_.size());
    ASAN_UNPOISON_MEMORY_REGION(begin_, bytes_);
  }
  ~GuardedArena() { ASAN_UNPOISON_MEMORY_REGION(memory_.data(), memory_.size()); }
  GuardedArena(const GuardedArena&) = delete;
  GuardedArena& operator=(const GuardedArena&) = delete;
  std::uint8_t* data() { return begin_; }
  std::size_t size() const { return bytes_; }

 private:
  enum : std::size_t { kGuardBytes = 64, kAlignment = tinytrain::kArenaAlignment };
  std::size_t bytes_;
  std::vector<std::uint8_t> memory_;
  std::uint8_t* begin_;
};

}  // namespace hostile

#endif  // TINYTRAIN_TESTS_RANDOM_MODEL_H_
