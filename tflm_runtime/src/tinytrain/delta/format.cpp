#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/delta/format.h"

#include <cstring>

#include "tinytrain_delta.h"

namespace tinytrain {
namespace {

bool ChannelsAscend(const Record& record) {
  for (std::uint32_t n = 1; n < record.num_channels; ++n) {
    if (record.Channel(n) <= record.Channel(n - 1)) return false;
  }
  return true;
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

void DeltaWriter::Bytes(const void* bytes, std::size_t count) {
  written_ += count;
  if (put_ == nullptr) return;
  const auto* data = static_cast<const std::uint8_t*>(bytes);
  crc_ = Crc32(data, count, crc_);
  put_(context_, data, count);
}

void DeltaWriter::U16(std::uint16_t value) {
  U8(static_cast<std::uint8_t>(value & 0xffu));
  U8(static_cast<std::uint8_t>(value >> 8));
}

void DeltaWriter::U32(std::uint32_t value) {
  U16(static_cast<std::uint16_t>(value & 0xffffu));
  U16(static_cast<std::uint16_t>(value >> 16));
}

void DeltaWriter::Header(std::uint16_t num_records, std::uint32_t sequence, std::size_t length, const std::uint8_t* base_hash) {
  Bytes(kDeltaMagic, sizeof(kDeltaMagic));
  U16(kDeltaVersion);
  U16(num_records);
  U32(sequence);
  U32(static_cast<std::uint32_t>(length));
  Bytes(base_hash, 32);
}

void DeltaWriter::RecordHead(const void* name, std::size_t name_bytes, std::uint8_t type, std::uint8_t flags,
                             std::uint32_t num_values, std::uint32_t num_channels) {
  U8(static_cast<std::uint8_t>(name_bytes));
  Bytes(name, name_bytes);
  U8(type);
  U8(flags);
  U32(num_values);
  U16(static_cast<std::uint16_t>(num_channels));
}

const std::uint8_t* DeltaReader::Bytes(std::size_t count) {
  if (!ok_ || count > left_) {
    ok_ = false;
    return nullptr;
  }
  const std::uint8_t* bytes = data_;
  data_ += count;
  left_ -= count;
  return bytes;
}

std::uint8_t DeltaReader::U8() {
  const std::uint8_t* bytes = Bytes(1);
  return bytes == nullptr ? std::uint8_t{0} : bytes[0];
}

std::uint16_t DeltaReader::U16() {
  const std::uint8_t* bytes = Bytes(2);
  return bytes == nullptr ? std::uint16_t{0} : static_cast<std::uint16_t>(bytes[0] | (bytes[1] << 8));
}

std::uint32_t DeltaReader::U32() {
  const std::uint32_t low = U16();
  return low | (static_cast<std::uint32_t>(U16()) << 16);
}

void PutIntoRam(void* next, const std::uint8_t* bytes, std::size_t count) {
  auto** to = static_cast<std::uint8_t**>(next);
  std::memcpy(*to, bytes, count);
  *to += count;
}

bool ReadRecord(DeltaReader* reader, Record* record) {
  record->name_bytes = reader->U8();
  record->name = reader->Bytes(record->name_bytes);
  record->type = reader->U8();
  record->flags = reader->U8();
  record->num_values = reader->U32();
  record->num_channels = reader->U16();
  if (!reader->ok() || record->type > kInt8Values || record->flags > (kHasBias | kHasPrevious)) return false;
  const std::uint64_t value_bytes = record->type == kInt8Values ? 1 : 4;
  const std::uint64_t bytes = value_bytes * record->num_values * record->num_channels;
  record->channels = reader->Bytes(2 * static_cast<std::size_t>(record->num_channels));
  if (!reader->ok() || bytes > reader->left()) return false;
  const std::size_t bias_bytes = record->BiasBytes() * record->num_channels;
  record->values = reader->Bytes(static_cast<std::size_t>(bytes));
  record->biases = reader->Bytes(bias_bytes);
  if (record->has_previous()) {
    record->previous_values = reader->Bytes(static_cast<std::size_t>(bytes));
    record->previous_biases = reader->Bytes(bias_bytes);
  }
  return reader->ok() && ChannelsAscend(*record);
}

bool ValuesAreSane(const Record& record) {
  const std::size_t count = static_cast<std::size_t>(record.num_channels) * record.num_values;
  for (std::size_t i = 0; i < count; ++i) {
    if (record.type == kInt8Values ? record.Int8(i) == -128 : !IsFinite(record.Float(record.values, i))) return false;
  }
  if (!record.has_bias() || record.type == kInt8Values) return true;
  for (std::uint32_t n = 0; n < record.num_channels; ++n) {
    if (!IsFinite(record.Float(record.biases, n))) return false;
  }
  return true;
}

std::size_t NameBytes(const char* name) {
  std::size_t count = 0;
  while (count < static_cast<std::size_t>(kMaxNameBytes) && name[count] != '\0') ++count;
  return count;
}

bool IsNamed(const Record& record, const char* name) {
  return NameBytes(name) == record.name_bytes && std::memcmp(name, record.name, record.name_bytes) == 0;
}

}  // namespace tinytrain
