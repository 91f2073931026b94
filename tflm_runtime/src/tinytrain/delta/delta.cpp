#include "tinytrain/numerics/strict_float.h"

#include "tinytrain_delta.h"

#include <cstring>

#include "tinytrain/delta/format.h"
#include "tinytrain/memory/weights.h"
#include "tinytrain/trainer/second_head.h"

namespace tinytrain {
namespace {

std::size_t RecordBytes(std::size_t name_bytes, std::size_t num_channels, std::size_t num_values, std::size_t value_bytes,
                        bool has_bias) {
  return 1 + name_bytes + 1 + 1 + 4 + 2 + num_channels * (2 + num_values * value_bytes + (has_bias ? 4 : 0));
}

void WriteTrained(DeltaWriter* writer, const TrainedState& state) {
  const std::int32_t num_channels = state.trained->num_channels;
  const std::int32_t num_values = state.layout.weights_per_channel;
  const char* name = state.trained->name;
  writer->RecordHead(name, NameBytes(name), kInt8Values, state.bias != nullptr ? kHasBias : 0,
                     static_cast<std::uint32_t>(num_values), static_cast<std::uint32_t>(num_channels));
  for (std::int32_t n = 0; n < num_channels; ++n) writer->U16(state.trained->channels[n]);
  for (std::int32_t n = 0; n < num_channels; ++n) {
    for (std::int32_t j = 0; j < num_values; ++j) {
      writer->U8(static_cast<std::uint8_t>(state.kernel[KernelIndex(state, n, j)]));
    }
  }
  if (state.bias == nullptr) return;
  for (std::int32_t n = 0; n < num_channels; ++n) {
    writer->U32(static_cast<std::uint32_t>(state.bias[state.Row(n)]));
  }
}

void WritePrototypes(DeltaWriter* writer, const char* name, const float* prototypes, std::int32_t num_classes,
                     std::int32_t dimension) {
  writer->RecordHead(name, NameBytes(name), kFloat32Values, 0, static_cast<std::uint32_t>(dimension),
                     static_cast<std::uint32_t>(num_classes));
  for (std::int32_t k = 0; k < num_classes; ++k) writer->U16(static_cast<std::uint16_t>(k));
  for (std::int32_t i = 0; i < num_classes * dimension; ++i) writer->F32(prototypes[i]);
}

std::size_t PrototypesBytes(const char* name, std::int32_t num_classes, std::int32_t dimension) {
  return RecordBytes(NameBytes(name), static_cast<std::size_t>(num_classes), static_cast<std::size_t>(dimension), 4, false);
}

bool Answers(const Buffers& buffers) { return buffers.second_head != nullptr && buffers.second_head->answers; }

std::int32_t FindTrained(const Tables& tables, const Record& record) {
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    if (IsNamed(record, tables.trained[t].name)) return t;
  }
  return kNone;
}

// Index of a channel in the trained layer's list, at `from` or later; kNone: it is not trained.
std::int32_t FindChannel(const TrainedLayer& trained, std::int32_t channel, std::int32_t from) {
  if (trained.channels == nullptr) return channel < trained.num_channels ? channel : kNone;  // a candidate: all of them
  for (std::int32_t n = from; n < trained.num_channels; ++n) {
    if (trained.channels[n] == channel) return n;
  }
  return kNone;
}

bool FitsTrained(const Record& record, const TrainedState& state) {
  if (record.has_bias() != (state.layer->bias != nullptr)) return false;
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
    const float real = record.type == kInt8Values ? scale * static_cast<float>(record.Int8(i)) : record.Float(record.values, i);
    *weight = record.type == kInt8Values ? record.Int8(i) : QuantizeWeight(real, scale);
    if (state.masters != nullptr) state.masters[n * num_values + j] = real;
  }
  if (!record.has_bias()) return;
  std::int32_t* bias = &state.bias[state.Row(n)];
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
  if (tables.head != Head::kPrototypes || record.type != kFloat32Values || record.has_bias()) return false;
  if (record.num_channels != num_classes || record.num_values != static_cast<std::uint32_t>(buffers.dimension)) return false;
  return record.Channel(num_classes - 1) == settings.num_classes - 1;  // they ascend, so they are 0, 1, 2, ...
}

Status ReadRecords(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, DeltaReader reader,
                   std::int32_t num_records, bool apply, PrototypesFound* found) {
  for (std::int32_t i = 0; i < num_records; ++i) {
    Record record;
    if (!ReadRecord(&reader, &record) || !ValuesAreSane(record)) return Status::kDeltaCorrupt;
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
    if (t == kNone) {
      SecondHead* const second = buffers.second_head;
      const Status status = second != nullptr ? second->take(second, record, apply) : Status::kDeltaForeign;
      if (status != Status::kOk) return status;
      continue;
    }
    const TrainedState state = TrainedAt(tables, buffers, t);
    if (!FitsTrained(record, state)) return Status::kDeltaForeign;
    if (apply) ApplyTrained(record, state);
  }
  return reader.left() == 0 ? Status::kOk : Status::kDeltaCorrupt;
}

// The delta must be complete by CheckDelta.
DeltaReader RecordsOf(const std::uint8_t* data) {
  const std::size_t length = DeltaReader(data + 12, 4).U32();
  return {data + kDeltaHeaderBytes, length - kDeltaHeaderBytes - kDeltaCrcBytes};
}

std::int32_t NumRecords(const std::uint8_t* data) { return DeltaReader(data + 6, 2).U16(); }

}  // namespace

bool SameName(const char* a, const char* b) {
  std::int32_t i = 0;
  while (i < kMaxNameBytes && a[i] == b[i] && a[i] != '\0') ++i;
  return a[i] == b[i];
}

Status CheckDelta(const std::uint8_t* data, std::size_t data_bytes, std::uint32_t* sequence) {
  if (data == nullptr || data_bytes < kDeltaHeaderBytes + kDeltaCrcBytes) return Status::kDeltaCorrupt;
  if (std::memcmp(data, kDeltaMagic, sizeof(kDeltaMagic)) != 0) return Status::kDeltaCorrupt;
  const std::size_t length = DeltaReader(data + 12, 4).U32();
  if (length < kDeltaHeaderBytes + kDeltaCrcBytes || length > data_bytes) return Status::kDeltaCorrupt;
  const std::size_t before_crc = length - kDeltaCrcBytes;
  if (DeltaReader(data + before_crc, 4).U32() != Crc32(data, before_crc)) return Status::kDeltaCorrupt;
  if (DeltaReader(data + 4, 2).U16() != kDeltaVersion) return Status::kVersionMismatch;
  if (sequence != nullptr) *sequence = DeltaReader(data + 8, 4).U32();
  return Status::kOk;
}

std::size_t DeltaSize(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers) {
  std::size_t bytes = kDeltaHeaderBytes + kDeltaCrcBytes;
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    const TrainedState state = TrainedAt(tables, buffers, t);
    bytes += RecordBytes(NameBytes(state.trained->name), static_cast<std::size_t>(state.trained->num_channels),
                         static_cast<std::size_t>(state.layout.weights_per_channel), 1, state.bias != nullptr);
  }
  const std::int32_t num_classes = settings.num_classes;
  if (Answers(buffers)) {
    return bytes + buffers.second_head->record_bytes + (buffers.in_slot ? buffers.second_head->slot_bytes : 0);
  }
  if (buffers.prototypes != nullptr) bytes += PrototypesBytes(kPrototypesName, num_classes, buffers.dimension);
  if (buffers.original_prototypes != nullptr) {
    bytes += PrototypesBytes(kOriginalPrototypesName, num_classes, buffers.dimension);
  }
  return bytes;
}

void PutDelta(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, std::uint32_t sequence,
              DeltaWriter::Put put, void* context) {
  const SecondHead* const second = Answers(buffers) ? buffers.second_head : nullptr;
  const float* const adapted = second == nullptr ? buffers.prototypes : nullptr;
  const float* const original = second == nullptr ? buffers.original_prototypes : nullptr;
  const std::int32_t num_records = tables.num_trained + (adapted != nullptr ? 1 : 0) + (original != nullptr ? 1 : 0) +
                                   (second != nullptr ? second->num_records : 0) +
                                   (second != nullptr && buffers.in_slot ? second->slot_records : 0);
  DeltaWriter writer(put, context);
  writer.Header(static_cast<std::uint16_t>(num_records), sequence, DeltaSize(tables, settings, buffers), tables.base_hash);
  for (std::int32_t t = 0; t < tables.num_trained; ++t) WriteTrained(&writer, TrainedAt(tables, buffers, t));
  if (adapted != nullptr) WritePrototypes(&writer, kPrototypesName, adapted, settings.num_classes, buffers.dimension);
  if (original != nullptr) WritePrototypes(&writer, kOriginalPrototypesName, original, settings.num_classes, buffers.dimension);
  if (second != nullptr) second->put(second, &writer, buffers.in_slot);
  writer.Crc();
}

void WriteDelta(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, std::uint32_t sequence,
                std::uint8_t* data) {
  PutDelta(tables, settings, buffers, sequence, &PutIntoRam, &data);
}

Status ReadDelta(const Tables& tables, const TrainingSettings& settings, const Buffers& buffers, const std::uint8_t* data,
                 std::size_t data_bytes, bool apply, PrototypesFound* found) {
  *found = {};
  const Status status = CheckDelta(data, data_bytes, nullptr);
  if (status != Status::kOk) return status;
  if (std::memcmp(data + 16, tables.base_hash, sizeof(tables.base_hash)) != 0) return Status::kDeltaForeign;
  return ReadRecords(tables, settings, buffers, RecordsOf(data), NumRecords(data), apply, found);
}

bool IsEmptyDelta(const std::uint8_t* data) { return NumRecords(data) == 0; }

std::int32_t ReadPlan(const Tables& exported, const std::uint8_t* data, TrainedLayer* layers, std::uint16_t* channels) {
  std::int32_t num_layers = 0;
  for (std::int32_t i = 0; i < exported.num_trained; ++i) {
    DeltaReader reader = RecordsOf(data);
    bool is_there = false;
    for (std::int32_t r = 0; r < NumRecords(data); ++r) {
      Record record;
      if (!ReadRecord(&reader, &record) || !IsNamed(record, exported.trained[i].name) || record.num_channels == 0) continue;
      if (is_there) return kNone;
      is_there = true;
      TrainedLayer& layer = layers[num_layers++];
      layer = exported.trained[i];
      layer.num_channels = static_cast<std::int32_t>(record.num_channels);
      layer.channels = channels;
      for (std::uint32_t n = 0; channels != nullptr && n < record.num_channels; ++n) {
        *channels++ = static_cast<std::uint16_t>(record.Channel(n));
      }
    }
  }
  return num_layers;
}

}  // namespace tinytrain
