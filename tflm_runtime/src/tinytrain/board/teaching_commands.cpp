#include "tinytrain/numerics/strict_float.h"

#include "tinytrain_teaching.h"

#include <cstring>

#include "tinytrain/board/answers.h"
#include "tinytrain/delta/format.h"
#include "tinytrain_delta.h"

namespace tinytrain {
namespace {

// Of a delta's header, tinytrain_delta.h.
constexpr std::size_t kLengthAt = 12, kHashAt = 16, kHashBytes = 32;

void TellSamples(const Trainer& trainer, const Port& port) {
  const Buffers& buffers = trainer.buffers();
  for (std::int32_t place = 0; place < trainer.num_samples(); ++place) {
    const void* const kept = trainer.StoredSample(place, 0);
    if (!trainer.IsKept(place)) continue;
    WriteNumber(port, "SAMPLE ", static_cast<std::uint32_t>(place));
    WriteNumber(port, " ", buffers.labels[place]);
    const auto num_bytes = static_cast<std::size_t>(buffers.feature_elements);
    WriteNumber(port, " ", Crc32(static_cast<const std::uint8_t*>(kept), num_bytes));
    WriteText(port, "\r\n");
  }
}

void TellCount(const Trainer& trainer, const Port& port) {
  WriteNumber(port, "OK samples ", static_cast<std::uint32_t>(trainer.num_samples()));
}

// Thousandths of at most six digits. Of a class that is never answered: the least.
void TellScores(const Trainer& trainer, const Port& port) {
  constexpr float kLargest = 1000.0F;
  WriteText(port, "OK thousandths");
  for (std::int32_t k = 0; k < trainer.settings().num_classes; ++k) {
    const float logit = trainer.buffers().logits[k];
    const float size = logit < 0.0F ? -logit : logit;
    const auto thousandths = static_cast<std::uint32_t>(1000.0F * (size < kLargest ? size : kLargest));
    WriteNumber(port, logit < 0.0F ? " -" : " ", thousandths);
  }
}

void SendDelta(const Flash& slots, const Port& port) {
  const DeltaSlots saved(slots);
  if (saved.newest() == kNone) {
    WriteText(port, "ERROR no delta is saved\r\n");
    return;
  }
  const std::uint8_t* const delta = saved.Slot(saved.newest());
  std::uint32_t num_bytes = 0;
  std::memcpy(&num_bytes, delta + kLengthAt, sizeof(num_bytes));
  WriteNumber(port, "OK bytes ", num_bytes);
  WriteText(port, "\r\n");
  port.write(port.context, delta, num_bytes);
}

// The block goes into the slot that is written next, which its first block must name as the base model's.
Status TakeBlock(const Trainer& trainer, const Flash& slots, std::size_t offset, std::uint32_t crc, const Port& port) {
  alignas(16) std::uint8_t block[kFlashBlockBytes];
  if (!port.read(port.context, block, sizeof(block)) || Crc32(block, sizeof(block)) != crc) return Status::kDeltaCorrupt;
  const DeltaSlots saved(slots);
  if (!saved.fit() || offset % kFlashBlockBytes != 0 || offset >= saved.slot_bytes()) return Status::kFlashUnfit;
  if (offset == 0) {
    if (std::memcmp(block + kHashAt, trainer.tables().base_hash, kHashBytes) != 0) return Status::kDeltaForeign;
    const Status status = saved.Erase(saved.older());
    if (status != Status::kOk) return status;
  }
  return WriteBlock(slots, (saved.older() == 1 ? saved.slot_bytes() : 0) + offset, block);
}

Status Adopt(Trainer* trainer, const Flash& slots, std::uint32_t sequence) {
  const DeltaSlots saved(slots);
  std::uint32_t newest = 0;
  if (saved.newest() == kNone) return Status::kDeltaCorrupt;
  const std::uint8_t* const delta = saved.Slot(saved.newest());
  if (CheckDelta(delta, saved.slot_bytes(), &newest) != Status::kOk || newest != sequence) return Status::kDeltaCorrupt;
  const Status status = trainer->LoadDelta(delta, saved.slot_bytes());
  if (status != Status::kOk) saved.Erase(saved.newest());
  return status;
}

bool Obey(Trainer* trainer, const Flash* slots, const char* line, const Port& port) {
  std::uint32_t numbers[2] = {};
  const auto is = [&](const char* word, std::int32_t count) {
    const char* const rest = After(word, line);
    return rest != nullptr && ReadNumbers(rest, numbers, count);
  };
  if (is("SAMPLES", 0)) {
    TellSamples(*trainer, port);
    TellCount(*trainer, port);
  } else if (is("REMOVE", 1)) {
    if (numbers[0] < static_cast<std::uint32_t>(trainer->num_samples())) {
      trainer->RemoveSample(static_cast<std::int32_t>(numbers[0]));
      TellCount(*trainer, port);
    } else {
      WriteText(port, "ERROR there is no such sample");
    }
  } else if (is("SCORES", 0)) {
    TellScores(*trainer, port);
  } else if (slots != nullptr && is("DELTA", 0)) {
    SendDelta(*slots, port);
    return true;
  } else if (slots != nullptr && is("BLOCK", 2)) {
    WriteStatus(port, TakeBlock(*trainer, *slots, numbers[0], numbers[1], port));
  } else if (slots != nullptr && is("ADOPT", 1)) {
    WriteStatus(port, Adopt(trainer, *slots, numbers[0]));
  } else {
    return false;
  }
  WriteText(port, "\r\n");
  return true;
}

}  // namespace

const MoreCommands kTeaching = {", SAMPLES, REMOVE <place>, SCORES, DELTA, BLOCK <offset> <crc>, ADOPT <sequence>", &Obey};

}  // namespace tinytrain
