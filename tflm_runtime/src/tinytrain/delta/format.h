// Writes the bytes of a delta field by field, and reads them in place. tinytrain_delta.h has the layout.
#ifndef TINYTRAIN_DELTA_FORMAT_H_
#define TINYTRAIN_DELTA_FORMAT_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain/numerics/math.h"

namespace tinytrain {

constexpr std::size_t kDeltaHeaderBytes = 48;
constexpr std::size_t kDeltaCrcBytes = 4;
constexpr std::uint8_t kFloat32Values = 0;
constexpr std::uint8_t kInt8Values = 1;
constexpr std::uint8_t kFloat64Values = 2;  // of a Keras model in float64; no device has one, so ReadRecord refuses it
constexpr std::uint8_t kHasBias = 1, kHasPrevious = 2;  // flags of a record

// CRC-32 as zlib's. Pass the previous result to continue it.
std::uint32_t Crc32(const std::uint8_t* data, std::size_t data_bytes, std::uint32_t crc = 0);

// Passes bytes on to `put`, counts them and computes their CRC. nullptr: only counts.
class DeltaWriter {
 public:
  using Put = void (*)(void* context, const std::uint8_t* bytes, std::size_t count);
  DeltaWriter(Put put, void* context) : put_(put), context_(context) {}

  void Bytes(const void* bytes, std::size_t count);
  void U8(std::uint8_t value) { Bytes(&value, 1); }
  void U16(std::uint16_t value);
  void U32(std::uint32_t value);
  void F32(float value) { U32(BitsFromFloat(value)); }
  void Header(std::uint16_t num_records, std::uint32_t sequence, std::size_t length, const std::uint8_t* base_hash);
  void RecordHead(const void* name, std::size_t name_bytes, std::uint8_t type, std::uint8_t flags, std::uint32_t num_values,
                  std::uint32_t num_channels);
  void Crc() { U32(crc_); }

  std::size_t written() const { return written_; }

 private:
  Put put_;
  void* context_;
  std::size_t written_ = 0;
  std::uint32_t crc_ = 0;
};

// `put` of a writer into RAM; the context is a std::uint8_t** to the place of the next byte.
void PutIntoRam(void* next, const std::uint8_t* bytes, std::size_t count);

// Never reads beyond its end: after an attempt, ok() is false and every value is 0.
class DeltaReader {
 public:
  DeltaReader(const std::uint8_t* data, std::size_t data_bytes) : data_(data), left_(data_bytes) {}

  bool ok() const { return ok_; }
  std::size_t left() const { return left_; }

  const std::uint8_t* Bytes(std::size_t count);
  std::uint8_t U8();
  std::uint16_t U16();
  std::uint32_t U32();

 private:
  const std::uint8_t* data_;
  std::size_t left_;
  bool ok_ = true;
};

// A complete record, in place.
struct Record {
  const std::uint8_t* name;
  std::size_t name_bytes;
  std::uint8_t type;
  std::uint8_t flags;
  std::uint32_t num_values;
  std::uint32_t num_channels;
  const std::uint8_t* channels;
  const std::uint8_t* values;
  const std::uint8_t* biases;
  const std::uint8_t* previous_values;  // the base model's: Python keeps them to revert, the device has them in flash
  const std::uint8_t* previous_biases;

  bool has_bias() const { return (flags & kHasBias) != 0; }
  bool has_previous() const { return (flags & kHasPrevious) != 0; }
  // Bytes of one channel's values, and of its bias.
  std::size_t ChannelBytes() const { return static_cast<std::size_t>(num_values) * (type == kInt8Values ? 1 : 4); }
  std::size_t BiasBytes() const { return has_bias() ? 4 : 0; }
  std::int32_t Channel(std::uint32_t n) const { return DeltaReader(channels + 2 * n, 2).U16(); }
  std::uint32_t Word(const std::uint8_t* words, std::size_t index) const { return DeltaReader(words + 4 * index, 4).U32(); }
  float Float(const std::uint8_t* words, std::size_t index) const { return FloatFromBits(Word(words, index)); }
  std::int8_t Int8(std::size_t index) const { return static_cast<std::int8_t>(values[index]); }
};

// False: the record is cut short or of an unknown kind, or its channels do not ascend.
bool ReadRecord(DeltaReader* reader, Record* record);

// Whether a training can have made all values: no int8 is -128, and every float is finite.
bool ValuesAreSane(const Record& record);

// A name's bytes, at most kMaxNameBytes, and whether it is the record's.
std::size_t NameBytes(const char* name);
bool IsNamed(const Record& record, const char* name);

}  // namespace tinytrain

#endif  // TINYTRAIN_DELTA_FORMAT_H_
