// libFuzzer: a board hears whatever bytes come, those of a page among them, and the power may go at any of them. Every answer
// is a line, what STATUS calls lasting is what the next power-up runs, and nothing that was taken back for good comes again.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "random_model.h"
#include "tinytrain/delta/format.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain_delta.h"
#include "tinytrain_serial.h"
#include "tinytrain_teaching.h"

extern "C" const void* tinytrain_tables();

namespace {

using tinytrain::Status;
using Delta = std::vector<std::uint8_t>;

const tinytrain::Tables& TheTables() { return *static_cast<const tinytrain::Tables*>(tinytrain_tables()); }

void Expect(bool condition) {
  if (!condition) std::abort();
}

// Two slots of one page. Writes can only clear bits; after so many changes the power is gone, and the next is left halfway.
struct Slots {
  Delta data;
  std::int32_t changes_left = -1;  // -1: the power stays

  tinytrain::Flash flash() { return {this, data.data(), data.size(), data.size() / 2, &Erase, &Write}; }
  bool PowerIsThere() {
    if (changes_left > 0) --changes_left;
    return changes_left != 0;
  }
  static bool Erase(void* context, std::size_t offset) {
    auto* self = static_cast<Slots*>(context);
    const bool whole = self->PowerIsThere();
    const std::size_t bytes = self->data.size() / (whole ? 2 : 4);
    std::fill_n(self->data.begin() + static_cast<std::ptrdiff_t>(offset), bytes, std::uint8_t{0xff});
    return whole;
  }
  static bool Write(void* context, std::size_t offset, const std::uint8_t* block) {
    auto* self = static_cast<Slots*>(context);
    const bool whole = self->PowerIsThere();
    const std::size_t bytes = whole ? tinytrain::kFlashBlockBytes : 100;
    for (std::size_t i = 0; i < bytes; ++i) self->data[offset + i] &= block[i];
    return whole;
  }
};

// A serial port: what the board hears and says.
struct Line {
  std::string heard;
  std::size_t at = 0;
  std::string said;

  tinytrain::Port port() { return {this, &Read, &Write, &Milliseconds}; }
  static bool Read(void* context, void* data, std::size_t num_bytes) {
    auto* self = static_cast<Line*>(context);
    if (self->heard.size() - self->at < num_bytes) return false;
    std::memcpy(data, self->heard.data() + self->at, num_bytes);
    self->at += num_bytes;
    return true;
  }
  static void Write(void* context, const void* data, std::size_t num_bytes) {
    static_cast<Line*>(context)->said.append(static_cast<const char*>(data), num_bytes);
  }
  static std::uint32_t Milliseconds(void*) { return 5; }

  void ExpectWholeLines() const {
    for (std::size_t begin = 0, end = 0; begin < said.size(); begin = end + 2) {
      end = said.find("\r\n", begin);
      Expect(end != std::string::npos);
      const std::string word = said.substr(begin, said.find(' ', begin) - begin).substr(0, end - begin);
      Expect(word == "OK" || word == "ERROR" || word == "LOSS" || word == "PLAN" || word == "SAMPLE");
      const std::string bytes = "OK bytes ";  // so many follow the answer to DELTA
      if (said.compare(begin, bytes.size(), bytes) == 0) end += std::stoul(said.substr(begin + bytes.size()));
      Expect(end + 2 <= said.size());
    }
  }
};

std::string ImageCommand(const std::string& word, std::uint8_t value, bool right) {
  const tinytrain::Tables& t = TheTables();
  const std::string image(static_cast<std::size_t>(t.image_height * t.image_width * t.image_channels),
                          static_cast<char>(value));
  const auto* bytes = static_cast<const std::uint8_t*>(static_cast<const void*>(image.data()));
  return word + " " + std::to_string(tinytrain::Crc32(bytes, image.size()) + (right ? 0 : 1)) + "\n" + image;
}

// The command that two bytes of the input stand for.
std::string Heard(std::uint8_t kind, std::uint8_t value) {
  const char* const words[] = {"TRAIN", "STATUS", "REVERT", "RESET", "SAVE", "UNDO", "FACTORY"};
  if (kind < 7) return std::string(words[kind]) + (value % 8 == 7 ? "\r\n" : "\n");
  if (kind == 7) return ImageCommand("PREDICT", value, value % 8 != 0);
  return ImageCommand("TEACH " + std::to_string(value % 16 == 15 ? 3 : value % 3), value, value % 8 != 0);
}

std::string Block(std::size_t offset, Delta block) {
  block.resize(tinytrain::kFlashBlockBytes, 0xff);
  return "BLOCK " + std::to_string(offset) + " " + std::to_string(tinytrain::Crc32(block.data(), block.size())) + "\n" +
         std::string(block.begin(), block.end());
}

void PutU32(std::uint8_t* at, std::uint32_t value) { std::memcpy(at, &value, sizeof(value)); }

// A page's commands. "BLOCK" with bytes that are no delta; the others with the saved delta, renewed, whole or not.
std::string HeardOfPage(std::uint8_t kind, std::uint8_t value, Slots* slots) {
  const char* const words[] = {"SAMPLES\n", "SCORES\n", "DELTA\n"};
  if (kind == 10) return value % 4 < 3 ? words[value % 4] : "REMOVE " + std::to_string(value / 4 % 8) + "\n";
  const tinytrain::Flash flash = slots->flash();
  const tinytrain::DeltaSlots saved(flash);
  if (kind == 12 || saved.newest() == tinytrain::kNone) return Block(value * 64U, Delta(200, value));
  std::uint32_t bytes = 0, sequence = 0;
  std::memcpy(&bytes, saved.Slot(saved.newest()) + 12, sizeof(bytes));
  Delta delta(saved.Slot(saved.newest()), saved.Slot(saved.newest()) + bytes);
  std::memcpy(&sequence, delta.data() + 8, sizeof(sequence));
  PutU32(delta.data() + 8, ++sequence);
  PutU32(delta.data() + bytes - 4, tinytrain::Crc32(delta.data(), bytes - 4));
  if (value % 8 == 7) delta[delta.size() / 2] ^= 1;
  std::string heard;
  for (std::size_t at = 0; at < delta.size(); at += tinytrain::kFlashBlockBytes) {
    const std::size_t end = std::min(at + tinytrain::kFlashBlockBytes, delta.size());
    const auto first = delta.begin() + static_cast<std::ptrdiff_t>(at);
    if (end < delta.size() || value % 8 != 6)
      heard += Block(at, Delta(first, delta.begin() + static_cast<std::ptrdiff_t>(end)));
  }
  return value % 8 == 5 ? heard : heard + "ADOPT " + std::to_string(sequence) + "\n";
}

class Board {
 public:
  explicit Board(Slots* slots)
      : model_(TheTables(), 1),
        arena_(tinytrain::Trainer::RequiredBytes(TheTables(), TheTables().training, nullptr)),
        image_(static_cast<std::size_t>(TheTables().image_height * TheTables().image_width * TheTables().image_channels)),
        slots_(slots->flash()) {
    Expect(trainer_.Init(TheTables(), TheTables().training, model_.model(), arena_.data(), arena_.size()) == Status::kOk);
    trainer_.LoadDelta(slots_);  // refused, where nothing is saved
    Expect(trainer_.IsSaved(slots_));
  }

  void Hear(const std::string& heard) {
    Line line;
    line.heard = heard;
    tinytrain::SerialCommands commands(&trainer_, line.port(), "net", image_.data(), &slots_, &tinytrain::kTeaching);
    while (line.at < line.heard.size()) {
      const std::size_t before = line.at;
      commands.Serve();
      if (line.at == before) break;  // half an image
    }
    line.ExpectWholeLines();
  }
  bool IsLasting() const { return trainer_.IsSaved(slots_); }
  // Empty: as exported.
  Delta Learned() const {
    if (trainer_.IsAsExported()) return {};
    Delta delta(trainer_.DeltaBytes());
    std::size_t bytes = 0;
    if (trainer_.SaveDelta(1, delta.data(), delta.size(), &bytes) != Status::kOk) return {1};  // no prototypes yet
    delta.resize(bytes);
    return delta;
  }

 private:
  hostile::RandomModel model_;
  hostile::GuardedArena arena_;
  hostile::Bytes image_;
  tinytrain::Flash slots_;
  tinytrain::Trainer trainer_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Slots slots;
  slots.data.assign(4096, 0xff);
  while (size >= 2) {
    slots.changes_left = -1;
    Board board(&slots);
    Delta lasting = board.Learned();  // what runs after the power went
    bool power = true;
    for (bool off = false; size >= 2 && power && !off; data += 2, size -= 2) {
      const std::uint8_t kind = data[0] % 16;
      off = kind == 15;                                       // between two commands
      if (kind == 14) slots.changes_left = 1 + data[1] % 12;  // within one of the next
      if (kind == 13) board.Hear(std::string(data, data + std::min<std::size_t>(size, data[1])));
      if (kind < 13) board.Hear(kind < 10 ? Heard(kind, data[1]) : HeardOfPage(kind, data[1], &slots));
      power = slots.changes_left != 0;
      if (power && board.IsLasting()) lasting = board.Learned();
    }
    slots.changes_left = -1;
    const Delta after = Board(&slots).Learned();
    Expect(after == lasting || (!power && after == board.Learned()));
  }
  return 0;
}
