#include "tinytrain_strict_float.h"

#include "tinytrain_delta.h"

#include <cstring>

#include "tinytrain_math.h"
#include "tinytrain_weights.h"

namespace tinytrain {
namespace {

constexpr std::size_t kHeaderBytes = 48;
constexpr std::size_t kCrcBytes = 4;
constexpr std::uint8_t kFloat32Values = 0;
constexpr std::uint8_t kInt8Values = 1;
const std::uint8_t kMagic[4] = {'T', 'T', 'D', 'L'};

// Writes without asking: the caller has checked that DeltaSize fits.
class Writer {
 public:
  explicit Writer(std::uint8_t* data) : data_(data) {}

  void Bytes(const void* bytes, std::size_t count) {
    std::memcpy(data_, bytes, count);
    data_ += count;
  }
  void U8(std::uint8_t value) { *data_++ = value; }
  void U16(std::uint16_t value) {
    U8(static_cast<std::uint8_t>(value & 0xffu));
    U8(static_cast<std::uint8_t>(value >> 8));
  }
  void U32(std::uint32_t value) {
    U16(static_cast<std::uint16_t>(value & 0xffffu));
    U16(static_cast<std::uint16_t>(value >> 16));
  }
  void F32(float value) { U32(BitsFromFloat(value)); }

 private:
  std::uint8_t* data_;
};

// Reads nothing beyond its end; once it would have, ok() is false and everything reads as 0.
class Reader {
 public:
  Reader(const std::uint8_t* data, std::size_t data_bytes) : data_(data), left_(data_bytes) {}

  bool ok() const { return ok_; }
  std::size_t left() const { return left_; }

  const std::uint8_t* Bytes(std::size_t count) {
    if (!ok_ || count > left_) {
      ok_ = false;
      return nullptr;
    }
    const std::uint8_t* bytes = data_;
    data_ += count;
    left_ -= count;
    return bytes;
  }
  std::uint8_t U8() {
    const std::uint8_t* bytes = Bytes(1);
    return bytes == nullptr ? std::uint8_t{0} : bytes[0];
  }
  std::uint16_t U16() {
    const std::uint8_t* bytes = Bytes(2);
    return bytes == nullptr ? std::uint16_t{0} : static_cast<std::uint16_t>(bytes[0] | (bytes[1] << 8));
  }
  std::uint32_t U32() {
    const std::uint32_t low = U16();
    return low | (static_cast<std::uint32_t>(U16()) << 16);
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
  bool ok_ = true;
};

std::size_t NameBytes(const char* name) {
  std::size_t count = 0;
  while (count < static_cast<std::size_t>(kMaxNameBytes) && name[count] != '\0') ++count;
  return count;
}

std::size_t RecordBytes(std::size_t name_bytes, std::size_t num_channels, std::size_t num_values, std::size_t value_bytes,
                        bool has_bias) {
  return 1 + name_bytes + 1 + 1 + 4 + 2 + num_channels * (2 + num_values * value_bytes + (has_bias ? 4 : 0));
}

void WriteRecordHead(Writer* writer, const char* name, std::uint8_t type, bool has_bias, std::int32_t num_values,
                     std::int32_t num_channels) {
  const std::size_t name_bytes = NameBytes(name);
  writer->U8(static_cast<std::uint8_t>(name_bytes));
  writer->Bytes(name, name_bytes);
  writer->U8(type);
  writer->U8(has_bias ? 1 : 0);
  writer->U32(static_cast<std::uint32_t>(num_values));
  writer->U16(static_cast<std::uint16_t>(num_channels));
}

void WriteTrained(Writer* writer, const TrainedState& state) {
  const std::int32_t num_channels = state.trained->num_channels;
  const std::int32_t num_values = state.layout.weights_per_channel;
  WriteRecordHead(writer, state.trained->name, kInt8Values, state.bias != nullptr, num_values, num_channels);
  for (std::int32_t n = 0; n < num_channels; ++n) writer->U16(state.trained->channels[n]);
  for (std::int32_t n = 0; n < num_channels; ++n) {
    for (std::int32_t j = 0; j < num_values; ++j) {
      writer->U8(static_cast<std::uint8_t>(state.kernel[KernelIndex(state, n, j)]));
    }
  }
  if (state.bias == nullptr) return;
  for (std::int32_t n = 0; n < num_channels; ++n) {
    writer->U32(static_cast<std::uint32_t>(state.bias[state.trained->channels[n]]));
  }
}

void WritePrototypes(Writer* writer, const char* name, const float* prototypes, std::int32_t num_classes,
                     std::int32_t dimension) {
  WriteRecordHead(writer, name, kFloat32Values, false, dimension, num_classes);
  for (std::int32_t k = 0; k < num_classes; ++k) writer->U16(static_cast<std::uint16_t>(k));
  for (std::int32_t i = 0; i < num_classes * dimension; ++i) writer->F32(prototypes[i]);
}

std::size_t PrototypesBytes(const char* name, std::int32_t num_classes, std::int32_t dimension) {
  return RecordBytes(NameBytes(name), static_cast<std::size_t>(num_classes), static_cast<std::size_t>(dimension), 4, false);
}

// A record in place: all of its bytes are there, its numbers are sane.
struct Record {
  const std::uint8_t* name;
  std::size_t name_bytes;
  std::uint8_t type;
  bool has_bias;
  std::uint32_t num_values;
  std::uint32_t num_channels;
  const std::uint8_t* channels;
  const std::uint8_t* values;
  const std::uint8_t* biases;

  std::int32_t Channel(std::uint32_t n) const { return Reader(channels + 2 * n, 2).U16(); }
  std::uint32_t Word(const std::uint8_t* words, std::size_t index) const { return Reader(words + 4 * index, 4).U32(); }
  float Float(const std::uint8_t* words, std::size_t index) const { return FloatFromBits(Word(words, index)); }
  std::int8_t Int8(std::size_t index) const { return static_cast<std::int8_t>(values[index]); }
};

bool ChannelsAscend(const Record& record) {
  for (std::uint32_t n = 1; n < record.num_channels; ++n) {
    if (record.Channel(n) <= record.Channel(n - 1)) return false;
  }
  return true;
}

bool ValuesAreSane(const Record& record) {
  const std::size_t count = static_cast<std::size_t>(record.num_channels) * record.num_values;
  for (std::size_t i = 0; i < count; ++i) {
    if (record.type == kInt8Values ? record.Int8(i) == -128 : !IsFinite(record.Float(record.values, i))) return false;
  }
  if (!record.has_bias || record.type == kInt8Values) return true;
  for (std::uint32_t n = 0; n < record.num_channels; ++n) {
    if (!IsFinite(record.Float(record.biases, n))) return false;
  }
  return true;
}

bool ReadRecord(Reader* reader, Record* record) {
  record->name_bytes = reader->U8();
  record->name = reader->Bytes(record->name_bytes);
  record->type = reader->U8();
  const std::uint8_t has_bias = reader->U8();
  record->has_bias = has_bias == 1;
  record->num_values = reader->U32();
  record->num_channels = reader->U16();
  if (!reader->ok() || record->type > kInt8Values || has_bias > 1) return false;
  const std::uint64_t value_bytes = record->type == kInt8Values ? 1 : 4;
  const std::uint64_t bytes = value_bytes * record->num_values * record->num_channels;
  record->channels = reader->Bytes(2 * static_cast<std::size_t>(record->num_channels));
  if (!reader->ok() || bytes > reader->left()) return false;
  record->values = reader->Bytes(static_cast<std::size_t>(bytes));
  record->biases = reader->Bytes(record->has_bias ? 4 * static_cast<std::size_t>(record->num_channels) : 0);
  return reader->ok() && ChannelsAscend(*record) && ValuesAreSane(*record);
}

bool IsNamed(const Record& record, const char* name) {
  return NameBytes(name) == record.name_bytes && std::memcmp(name, record.name, record.name_bytes) == 0;
}

std::int32_t FindTrained(const Tables& tables, const Record& record) {
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    if (IsNamed(record, tables.trained[t].name)) return t;
  }
  return kNone;
}

// Position of a channel in the trained layer's list, searched from `from` on; kNone if it is not trained.
std::int32_t FindChannel(const TrainedLayer& trained, std::int32_t channel, std::int32_t from) {
  for (std::int32_t n = from; n < trained.num_channels; ++n) {
    if (trained.channels[n] == channel) return n;
  }
  return kNone;
}

bool FitsTrained(const Record& record, const TrainedState& state) {
  if (record.has_bias != (state.layer->bias != nullptr)) return false;
  if (record.num_values != static_cast<std::uint32_t>(state.layout.weights_per_channel)) return false;
  std::int32_t n = 0;
  for (std::uint32_t r = 0; r < record.num_channels; ++r, ++n) {
    n = FindChannel(*state.trained, record.Channel(r), n);
    if (n == kNone) return false;
  }
  return true;
}

void ApplyChannel(const Record& record, std::uint32_t r, const TrainedState& state, std::int32_t n) {
  const std::int32_t num_values = state.layout.weights_per_channel;
  const std::size_t first = static_cast<std::size_t>(r) * record.num_values;
  const float scale = KernelScale(state, n);
  for (std::int32_t j = 0; j < num_values; ++j) {
    const std::size_t i = first + static_cast<std::size_t>(j);
    std::int8_t* weight = &state.kernel[KernelIndex(state, n, j)];
    const float real =
        record.type == kInt8Values ? scale * static_cast<float>(record.Int8(i)) : record.Float(record.values, i);
    *weight = record.type == kInt8Values ? record.Int8(i) : QuantizeWeight(real, scale);
    if (state.masters != nullptr) state.masters[n * num_values + j] = real;
  }
  if (!record.has_bias) return;
  std::int32_t* bias = &state.bias[state.trained->channels[n]];
  float real = 0.0f;
  if (record.type == kInt8Values) {
    *bias = static_cast<std::int32_t>(record.Word(record.biases, r));
    real = BiasScale(state, n) * static_cast<float>(*bias);
  } else {
    real = record.Float(record.biases, r);
    *bias = QuantizeBias(real, BiasScale(state, n));
  }
  if (state.masters != nullptr) state.bias_masters[n] = real;
}

void ApplyTrained(const Record& record, const TrainedState& state) {
  std::int32_t n = 0;
  for (std::uint32_t r = 0; r < record.num_channels; ++r, ++n) {
    n = FindChannel(*state.trained, record.Channel(r), n);
    ApplyChannel(record, r, state, n);
  }
}

bool FitsPrototypes(const Record& record, const Tables& tables, const TrainingSettings& settings, const Buffers& buffers) {
  const auto num_classes = static_cast<std::uint32_t>(settings.num_classes);
  if (tables.head != Head::kPrototypes || record.type != kFloat32Values || record.has_bias) return false;
  if (record.num_channels != num_classes || record.num_values != static_cast<std::uint32_t>(buffers.dimension)) return false;
  return record.Channel(num_classes - 1) == settings.num_classes - 1;  // they ascend, so they are 0, 1, 2, ...
}

Status ReadRecords(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, Reader reader,
                   std::int32_t num_records, bool apply, PrototypesFound* found) {
  for (std::int32_t i = 0; i < num_records; ++i) {
    Record record;
    if (!ReadRecord(&reader, &record)) return Status::kDeltaCorrupt;
    const bool is_original = IsNamed(record, kOriginalPrototypesName);
    if (is_original || IsNamed(record, kPrototypesName)) {
      if (!FitsPrototypes(record, tables, settings, buffers)) return Status::kDeltaForeign;
      (is_original ? found->original : found->adapted) = true;
      float* prototypes = is_original ? buffers.original_prototypes : buffers.prototypes;
      const std::size_t count = static_cast<std::size_t>(record.num_channels) * record.num_values;
      for (std::size_t j = 0; apply && prototypes != nullptr && j < count; ++j) {
        prototypes[j] = record.Float(record.values, j);
      }
      continue;
    }
    const std::int32_t t = FindTrained(tables, record);
    if (t == kNone) return Status::kDeltaForeign;
    const TrainedState state = TrainedAt(tables, buffers, t);
    if (!FitsTrained(record, state)) return Status::kDeltaForeign;
    if (apply) ApplyTrained(record, state);
  }
  return reader.left() == 0 ? Status::kOk : Status::kDeltaCorrupt;
}

}  // namespace

// Four bits at a time: 64 bytes of table.
std::uint32_t Crc32(const std::uint8_t* data, std::size_t data_bytes, std::uint32_t crc) {
  static const std::uint32_t kTable[16] = {0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
                                           0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
                                           0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
  crc = ~crc;
  for (std::size_t i = 0; i < data_bytes; ++i) {
    crc ^= data[i];
    crc = (crc >> 4) ^ kTable[crc & 15u];
    crc = (crc >> 4) ^ kTable[crc & 15u];
  }
  return ~crc;
}

bool SameName(const char* a, const char* b) {
  std::int32_t i = 0;
  while (i < kMaxNameBytes && a[i] == b[i] && a[i] != '\0') ++i;
  return a[i] == b[i];
}

Status CheckDelta(const std::uint8_t* data, std::size_t data_bytes, std::uint32_t* sequence) {
  if (data == nullptr || data_bytes < kHeaderBytes + kCrcBytes) return Status::kDeltaCorrupt;
  if (std::memcmp(data, kMagic, sizeof(kMagic)) != 0) return Status::kDeltaCorrupt;
  const std::size_t length = Reader(data + 12, 4).U32();
  if (length < kHeaderBytes + kCrcBytes || length > data_bytes) return Status::kDeltaCorrupt;
  if (Reader(data + length - kCrcBytes, 4).U32() != Crc32(data, length - kCrcBytes)) return Status::kDeltaCorrupt;
  if (Reader(data + 4, 2).U16() != kDeltaVersion) return Status::kVersionMismatch;
  if (sequence != nullptr) *sequence = Reader(data + 8, 4).U32();
  return Status::kOk;
}

std::int32_t NewestDelta(const std::uint8_t* slot_0, const std::uint8_t* slot_1, std::size_t slot_bytes) {
  std::uint32_t sequence_0 = 0, sequence_1 = 0;
  const bool good_0 = CheckDelta(slot_0, slot_bytes, &sequence_0) == Status::kOk;
  const bool good_1 = CheckDelta(slot_1, slot_bytes, &sequence_1) == Status::kOk;
  if (!good_0) return good_1 ? 1 : kNone;
  if (!good_1) return 0;
  return sequence_1 - sequence_0 - 1u < 0x7fffffffu ? 1 : 0;  // 1 is ahead by 1 to 2^31 - 1
}

std::size_t DeltaSize(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers) {
  std::size_t bytes = kHeaderBytes + kCrcBytes;
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    const TrainedState state = TrainedAt(tables, buffers, t);
    bytes += RecordBytes(NameBytes(state.trained->name), static_cast<std::size_t>(state.trained->num_channels),
                         static_cast<std::size_t>(state.layout.weights_per_channel), 1, state.bias != nullptr);
  }
  const std::int32_t num_classes = settings.num_classes;
  if (buffers.prototypes != nullptr) bytes += PrototypesBytes(kPrototypesName, num_classes, buffers.dimension);
  if (buffers.original_prototypes != nullptr) {
    bytes += PrototypesBytes(kOriginalPrototypesName, num_classes, buffers.dimension);
  }
  return bytes;
}

void WriteDelta(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, std::uint32_t sequence,
                std::uint8_t* data) {
  const std::size_t bytes = DeltaSize(tables, settings, buffers);
  const std::int32_t num_classes = settings.num_classes;
  const float* const adapted = buffers.prototypes;
  const float* const original = buffers.original_prototypes;
  const std::int32_t num_records = tables.num_trained + (adapted != nullptr ? 1 : 0) + (original != nullptr ? 1 : 0);
  Writer writer(data);
  writer.Bytes(kMagic, sizeof(kMagic));
  writer.U16(kDeltaVersion);
  writer.U16(static_cast<std::uint16_t>(num_records));
  writer.U32(sequence);
  writer.U32(static_cast<std::uint32_t>(bytes));
  writer.Bytes(tables.base_hash, sizeof(tables.base_hash));
  for (std::int32_t t = 0; t < tables.num_trained; ++t) WriteTrained(&writer, TrainedAt(tables, buffers, t));
  if (adapted != nullptr) WritePrototypes(&writer, kPrototypesName, adapted, num_classes, buffers.dimension);
  if (original != nullptr) WritePrototypes(&writer, kOriginalPrototypesName, original, num_classes, buffers.dimension);
  writer.U32(Crc32(data, bytes - kCrcBytes));
}

Status ReadDelta(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, const std::uint8_t* data,
                 std::size_t data_bytes, bool apply, PrototypesFound* found) {
  *found = {};
  const Status status = CheckDelta(data, data_bytes, nullptr);
  if (status != Status::kOk) return status;
  if (std::memcmp(data + 16, tables.base_hash, sizeof(tables.base_hash)) != 0) return Status::kDeltaForeign;
  const std::size_t length = Reader(data + 12, 4).U32();
  const std::int32_t num_records = Reader(data + 6, 2).U16();
  const Reader records(data + kHeaderBytes, length - kHeaderBytes - kCrcBytes);
  return ReadRecords(tables, settings, buffers, records, num_records, apply, found);
}

}  // namespace tinytrain
