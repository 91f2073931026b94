#include "tinytrain_merge.h"

#include <cstring>

#include "tinytrain_delta.h"
#include "tinytrain/delta/format.h"

namespace tinytrain {
namespace {

enum class Keep { kEither, kChanged };  // merge, diff

// A complete delta, for reading record by record.
struct Saved {
  const std::uint8_t* data;
  std::size_t length;
  std::int32_t num_records;
  std::uint32_t sequence;
  bool has_previous;  // of its records, all or none

  const std::uint8_t* base_hash() const { return data + 16; }
  DeltaReader records() const { return DeltaReader(data + kDeltaHeaderBytes, length - kDeltaHeaderBytes - kDeltaCrcBytes); }
};

// A record without channels, in place of one that a delta does not have.
const Record kAbsent{};

bool SameRecordName(const Record& a, const Record& b) {
  return a.name_bytes == b.name_bytes && std::memcmp(a.name, b.name, a.name_bytes) == 0;
}

// The first record with the name of `like`, or kAbsent.
Record Find(const Saved& delta, const Record& like) {
  DeltaReader reader = delta.records();
  for (std::int32_t i = 0; i < delta.num_records; ++i) {
    Record record{};
    if (ReadRecord(&reader, &record) && SameRecordName(record, like)) return record;
  }
  return kAbsent;
}

Status Open(const std::uint8_t* data, std::size_t data_bytes, Saved* delta) {
  const Status status = CheckDelta(data, data_bytes, &delta->sequence);
  if (status != Status::kOk) return status;
  delta->data = data;
  delta->num_records = DeltaReader(data + 6, 2).U16();
  delta->length = DeltaReader(data + 12, 4).U32();
  DeltaReader reader = delta->records();
  for (std::int32_t i = 0; i < delta->num_records; ++i) {
    Record record{};
    if (!ReadRecord(&reader, &record)) return Status::kDeltaCorrupt;
    if (i == 0) delta->has_previous = record.has_previous();
    if (record.has_previous() != delta->has_previous) return Status::kDeltaCorrupt;
    if (Find(*delta, record).channels != record.channels) return Status::kDeltaCorrupt;  // two of one name
  }
  return reader.left() == 0 ? Status::kOk : Status::kDeltaCorrupt;
}

// Whether two deltas may be combined: they are of one base model, and all their records hold the base model's values, or none.
bool BelongTogether(const Saved& a, const Saved& b) {
  if (std::memcmp(a.base_hash(), b.base_hash(), 32) != 0) return false;
  return a.num_records == 0 || b.num_records == 0 || a.has_previous == b.has_previous;
}

// Whether two records hold values of one kind and number. An absent record fits any.
bool SameKind(const Record& a, const Record& b) {
  if (a.name == nullptr || b.name == nullptr) return true;
  return a.type == b.type && a.flags == b.flags && a.num_values == b.num_values;
}

bool SameBytes(const std::uint8_t* a, std::uint32_t i, const std::uint8_t* b, std::uint32_t j, std::size_t bytes) {
  return bytes == 0 || std::memcmp(a + i * bytes, b + j * bytes, bytes) == 0;
}

// Calls use(record, n) for each kept channel, in ascending order, with the record that it comes from.
template <typename Use>
void ForEachKept(const Record& earlier, const Record& later, Keep keep, Use use) {
  std::uint32_t i = 0, j = 0;
  while (i < earlier.num_channels || j < later.num_channels) {
    const std::int32_t of_earlier = i < earlier.num_channels ? earlier.Channel(i) : 65536;
    const std::int32_t of_later = j < later.num_channels ? later.Channel(j) : 65536;
    const bool in_both = of_earlier == of_later;
    if (of_earlier < of_later) {
      if (keep == Keep::kEither) use(earlier, i);
    } else if (keep == Keep::kEither || !in_both || !SameBytes(earlier.values, i, later.values, j, later.ChannelBytes()) ||
               !SameBytes(earlier.biases, i, later.biases, j, later.BiasBytes())) {
      use(later, j);
    }
    if (of_earlier <= of_later) ++i;
    if (of_later <= of_earlier) ++j;
  }
}

// Writes one record. False: none of its channels is kept.
bool Combine(const Record& earlier, const Record& later, Keep keep, DeltaWriter* writer) {
  const Record& some = later.name != nullptr ? later : earlier;
  std::uint32_t num_kept = 0;
  ForEachKept(earlier, later, keep, [&](const Record&, std::uint32_t) { ++num_kept; });
  if (num_kept == 0) return false;
  writer->RecordHead(some.name, some.name_bytes, some.type, some.flags, some.num_values, num_kept);
  const auto column = [&](const std::uint8_t* Record::*values, std::size_t bytes) {
    ForEachKept(earlier, later, keep,
                [&](const Record& from, std::uint32_t n) { writer->Bytes(from.*values + n * bytes, bytes); });
  };
  column(&Record::channels, 2);
  column(&Record::values, some.ChannelBytes());
  if (some.has_bias()) column(&Record::biases, some.BiasBytes());
  if (some.has_previous()) column(&Record::previous_values, some.ChannelBytes());
  if (some.has_previous() && some.has_bias()) column(&Record::previous_biases, some.BiasBytes());
  return true;
}

// Writes the records and counts them.
Status CombineAll(const Saved& earlier, const Saved& later, Keep keep, DeltaWriter* writer, std::uint32_t* num_records) {
  *num_records = 0;
  DeltaReader reader = earlier.records();
  for (std::int32_t i = 0; i < earlier.num_records; ++i) {
    Record record{};
    ReadRecord(&reader, &record);
    const Record other = Find(later, record);
    if (!SameKind(record, other)) return Status::kDeltaForeign;
    *num_records += Combine(record, other, keep, writer) ? 1 : 0;
  }
  reader = later.records();
  for (std::int32_t i = 0; i < later.num_records; ++i) {
    Record record{};
    ReadRecord(&reader, &record);
    if (Find(earlier, record).name == nullptr) *num_records += Combine(kAbsent, record, keep, writer) ? 1 : 0;
  }
  return *num_records <= 65535 ? Status::kOk : Status::kDeltaForeign;
}

Status Combine(const std::uint8_t* earlier_data, std::size_t earlier_bytes, const std::uint8_t* later_data,
               std::size_t later_bytes, Keep keep, std::uint8_t* data, std::size_t data_bytes, std::size_t* written) {
  Saved earlier{}, later{};
  Status status = Open(earlier_data, earlier_bytes, &earlier);
  if (status == Status::kOk) status = Open(later_data, later_bytes, &later);
  if (status != Status::kOk) return status;
  if (!BelongTogether(earlier, later)) return Status::kDeltaForeign;
  std::uint32_t num_records = 0;
  DeltaWriter measure(nullptr, nullptr);
  status = CombineAll(earlier, later, keep, &measure, &num_records);
  if (status != Status::kOk) return status;
  const std::size_t length = kDeltaHeaderBytes + measure.written() + kDeltaCrcBytes;
  if (written != nullptr) *written = length;
  if (data == nullptr) return Status::kOk;
  if (length > data_bytes) return Status::kBufferTooSmall;
  DeltaWriter writer(&PutIntoRam, &data);
  writer.Header(static_cast<std::uint16_t>(num_records), later.sequence, length, later.base_hash());
  CombineAll(earlier, later, keep, &writer, &num_records);
  writer.Crc();
  return Status::kOk;
}

}  // namespace

Status MergeDeltas(const std::uint8_t* earlier, std::size_t earlier_bytes, const std::uint8_t* later, std::size_t later_bytes,
                   std::uint8_t* data, std::size_t data_bytes, std::size_t* written) {
  return Combine(earlier, earlier_bytes, later, later_bytes, Keep::kEither, data, data_bytes, written);
}

Status DiffDeltas(const std::uint8_t* earlier, std::size_t earlier_bytes, const std::uint8_t* later, std::size_t later_bytes,
                  std::uint8_t* data, std::size_t data_bytes, std::size_t* written) {
  return Combine(earlier, earlier_bytes, later, later_bytes, Keep::kChanged, data, data_bytes, written);
}

}  // namespace tinytrain
