// libFuzzer: a trainer loads whatever bytes come. The first byte says how: as they are; with length, hash and CRC put right, so
// that the fuzzer gets past them to the records; or as descriptions of records, whose lengths agree with what they hold.
#include <cstdlib>
#include <cstring>

#include "random_model.h"
#include "tinytrain_delta.h"
#include "tinytrain/delta/format.h"
#include "tinytrain_merge.h"

extern "C" const void* tinytrain_tables();

namespace {

const tinytrain::Tables& TheTables() { return *static_cast<const tinytrain::Tables*>(tinytrain_tables()); }

void PutU32(std::uint8_t* data, std::uint32_t value) {
  for (int i = 0; i < 4; ++i) data[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

void MakeItLookRight(std::vector<std::uint8_t>* delta) {
  if (delta->size() < 52) return;
  std::memcpy(delta->data(), "TTDL\1\0", 6);
  PutU32(delta->data() + 12, static_cast<std::uint32_t>(delta->size()));
  std::memcpy(delta->data() + 16, TheTables().base_hash, 32);
  PutU32(delta->data() + delta->size() - 4, tinytrain::Crc32(delta->data(), delta->size() - 4));
}

void Append(std::vector<std::uint8_t>* to, std::uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) to->push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

// A delta of one record for each seven bytes, at most four: which layer, value type and bias, number of values, number of
// channels, the first of them, and the step to the next.
std::vector<std::uint8_t> DescribedDelta(const std::uint8_t* data, std::size_t size) {
  const tinytrain::Tables& tables = TheTables();
  std::vector<std::uint8_t> delta(48);
  for (int r = 0; r < 4 && size >= 7; ++r, data += 7, size -= 7) {
    const std::int32_t layer = data[0] % (tables.num_trained + 2);
    const char* prototypes = layer == tables.num_trained ? tinytrain::kPrototypesName : tinytrain::kOriginalPrototypesName;
    const char* name = layer < tables.num_trained ? tables.trained[layer].name : prototypes;
    const std::uint32_t type = data[1] % 3, has_bias = data[1] / 3 % 2, copies = 1 + data[1] / 6 % 2;
    const std::uint32_t num_values = data[3] % 4 == 0 ? data[2] + 64u : data[2] % 64;
    const std::uint32_t num_channels = data[4] % 8;
    Append(&delta, static_cast<std::uint32_t>(std::strlen(name)), 1);
    delta.insert(delta.end(), name, name + std::strlen(name));
    Append(&delta, type, 1);
    Append(&delta, has_bias | (copies - 1) << 1, 1);
    Append(&delta, num_values, 4);
    Append(&delta, num_channels, 2);
    for (std::uint32_t n = 0; n < num_channels; ++n) Append(&delta, data[5] + n * (data[6] % 8), 2);
    delta.resize(delta.size() + copies * num_channels * (num_values * (type == 1 ? 1 : 4) + 4 * has_bias), data[6]);
    delta[6] = static_cast<std::uint8_t>(delta[6] + 1);  // number of records
  }
  delta.resize(delta.size() + 4);
  return delta;
}

// Two deltas that both may be anything: combined into as many bytes as were measured, or refused.
void Combine(const std::vector<std::uint8_t>& earlier, const std::vector<std::uint8_t>& later) {
  for (const auto combine : {&tinytrain::MergeDeltas, &tinytrain::DiffDeltas}) {
    const auto run = [&](std::uint8_t* out, std::size_t room, std::size_t* bytes) {
      return combine(earlier.data(), earlier.size(), later.data(), later.size(), out, room, bytes) == tinytrain::Status::kOk;
    };
    std::size_t bytes = 0;
    if (!run(nullptr, 0, &bytes)) continue;
    std::vector<std::uint8_t> out(bytes);
    if (!run(out.data(), bytes, nullptr)) std::abort();
    if (tinytrain::CheckDelta(out.data(), bytes, nullptr) != tinytrain::Status::kOk) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static hostile::RandomModel model(TheTables(), 1);
  static const std::size_t for_a_choice = TheTables().candidates.num_layers > 0 ? 4096 : 0;
  static hostile::GuardedArena arena(tinytrain::Trainer::RequiredBytes(TheTables(), TheTables().training, nullptr) +
                                     for_a_choice);
  static tinytrain::Trainer trainer;
  static const tinytrain::Status ready =
      trainer.Init(TheTables(), TheTables().training, model.model(), arena.data(), arena.size());
  if (ready != tinytrain::Status::kOk) std::abort();
  if (size == 0) return 0;
  std::vector<std::uint8_t> delta(data + 1, data + size);  // a copy of its own size: one byte too far is seen
  if (data[0] % 3 == 2) delta = DescribedDelta(data + 1, size - 1);
  if (data[0] % 3 != 0) MakeItLookRight(&delta);
  const bool loaded = trainer.LoadDelta(delta.data(), delta.size()) == tinytrain::Status::kOk;
  static std::vector<std::uint8_t> before;  // the last that was whole
  if (before.empty()) before = delta;
  Combine(before, delta);
  Combine(delta, before);
  if (tinytrain::CheckDelta(delta.data(), delta.size(), nullptr) == tinytrain::Status::kOk) before = delta;
  const std::size_t half = delta.size() / 2;
  tinytrain::NewestDelta(delta.data(), delta.data() + half, half);
  if (!loaded || !trainer.has_prototypes() || !trainer.has_original_prototypes()) return 0;
  std::vector<std::uint8_t> saved(trainer.DeltaBytes());  // what was taken over can be written, and read again
  if (trainer.SaveDelta(1, saved.data(), saved.size(), nullptr) != tinytrain::Status::kOk) std::abort();
  if (trainer.LoadDelta(saved.data(), saved.size()) != tinytrain::Status::kOk) std::abort();
  return 0;
}
