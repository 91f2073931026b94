#include "tinytrain/memory/memory.h"

#include "tinytrain_flash.h"
#include "tinytrain/backward/operators.h"
#include "tinytrain/trainer/optimizer.h"

namespace tinytrain {
namespace {

std::size_t RoundUp(std::size_t bytes) { return RoundUpTo(kArenaAlignment, bytes); }

// Gives out 16-byte aligned pieces in order.
class Cutter {
 public:
  explicit Cutter(std::uint8_t* memory) : next_(memory) {}

  template <typename T>
  T* Take(std::size_t count) {
    void* piece = next_;
    next_ += RoundUp(count * sizeof(T));
    return static_cast<T*>(piece);
  }

 private:
  std::uint8_t* next_;
};

std::size_t KernelBytes(const KernelLayout& layout) {
  return static_cast<std::size_t>(layout.output_channels) * static_cast<std::size_t>(layout.weights_per_channel);
}

// Bytes of a trained layer's kernel and bias in RAM, and where the bias begins.
std::size_t LayerBytes(const Layer& layer, const KernelLayout& layout, std::size_t* bias_offset) {
  *bias_offset = RoundUp(KernelBytes(layout));
  if (layer.bias == nullptr) return *bias_offset;
  return *bias_offset + RoundUp(static_cast<std::size_t>(layout.output_channels) * sizeof(std::int32_t));
}

// P: floats of all trained layers.
std::size_t NumWeights(const Tables& tables) {
  std::size_t count = 0;
  for (std::int32_t t = 0; t < tables.num_trained; ++t) count += NumTrainedWeights(tables, tables.trained[t]);
  return count;
}

// R: runs of them, a channel's kernel or its bias.
std::size_t NumRuns(const Tables& tables) {
  std::size_t count = 0;
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    const TrainedLayer& trained = tables.trained[t];
    count += static_cast<std::size_t>(trained.num_channels) * (tables.layers[trained.layer].bias == nullptr ? 1u : 2u);
  }
  return count;
}

static_assert(sizeof(Tables) <= kPlanTablesBytes && sizeof(TrainedLayer) <= kPlanLayerBytes, "a plan has room for them");

std::size_t PlanLayersBytes(const Candidates& candidates) {
  return RoundUp(kPlanLayerBytes * static_cast<std::size_t>(candidates.num_layers));
}

std::size_t PlanBytes(const Tables& tables) {
  if (tables.candidates.num_layers == 0) return 0;
  std::size_t num_channels = 0;
  for (std::int32_t t = 0; t < tables.num_trained; ++t)
    num_channels += static_cast<std::size_t>(tables.trained[t].num_channels);
  const std::size_t scores = sizeof(float) * static_cast<std::size_t>(tables.candidates.num_channels);
  return kPlanTablesBytes + PlanLayersBytes(tables.candidates) +
         RoundUp(num_channels > 0 ? sizeof(std::uint16_t) * num_channels : scores);
}

// Whether the samples' own embeddings are read after the pass that computed them: for prototypes of the iteration before, and
// by leave_one_out, unless the present sample is its own only view and has the weights of the prototypes.
bool KeepsEmbeddings(const Tables& tables, const TrainingSettings& settings) {
  const bool differs = tables.num_views > 0 || settings.updates == Updates::kImmediate;
  return (kMayLeaveOut && settings.late_prototypes) || (settings.leave_one_out && differs);
}

}  // namespace

std::int32_t NumElements(const Tensor& tensor) { return tensor.height * tensor.width * tensor.channels; }

std::int32_t StoredOffset(const Tables& tables, std::int32_t tensor) {
  std::int32_t offset = 0;
  for (std::int32_t t = 0; t < tensor; ++t) {
    if (t == 0 || tables.tensors[t].kept == kStoredSample) offset += NumElements(tables.tensors[t]);
  }
  return offset;
}

std::int32_t NumStored(const Tables& tables) { return StoredOffset(tables, tables.num_tensors); }

std::int32_t NumGradients(const Tensor& tensor) {
  return tensor.num_planes > 0 ? tensor.num_planes * tensor.height * tensor.width : NumElements(tensor);
}

KernelLayout LayoutOf(const Tables& tables, const Layer& layer) {
  const OperatorRow& row = RowOf(layer.op);
  if (row.weights_per_channel == nullptr) return {};
  const std::int32_t output_channels = tables.tensors[layer.output].channels;
  const auto weights = static_cast<std::int32_t>(row.weights_per_channel(layer, tables.tensors[layer.input]));
  if (row.Has(kColumnChannels)) return {output_channels, weights, 1, output_channels};
  return {output_channels, weights, weights, 1};
}

KernelLayout LayoutInRam(const Tables& tables, const TrainedLayer& trained) {
  KernelLayout layout = LayoutOf(tables, tables.layers[trained.layer]);
  if (trained.kernel != nullptr) layout.output_channels = trained.num_channels;
  return layout;
}

bool HasKernel(Operator op) { return RowOf(op).weights_per_channel != nullptr; }

bool IsPointwise(const Tables& tables, const Layer& layer) {
  return layer.op == Operator::kConv2D &&
         IsPointwise(ShapeOf(layer, tables.tensors[layer.input], tables.tensors[layer.output]));
}

std::size_t NumTrainedWeights(const Tables& tables, const TrainedLayer& trained) {
  const Layer& layer = tables.layers[trained.layer];
  const std::int32_t per_channel = LayoutOf(tables, layer).weights_per_channel + (layer.bias != nullptr ? 1 : 0);
  return static_cast<std::size_t>(trained.num_channels) * static_cast<std::size_t>(per_channel);
}

MemoryParts MeasureParts(const Tables& tables, const TrainingSettings& settings, bool samples_in_flash) {
  const auto features = static_cast<std::size_t>(NumStored(tables));
  const auto dimension = static_cast<std::size_t>(NumElements(tables.tensors[tables.num_tensors - 1]));
  const auto max_samples = static_cast<std::size_t>(settings.max_samples);
  const auto num_classes = static_cast<std::size_t>(settings.num_classes);
  const std::size_t views = 1 + static_cast<std::size_t>(tables.num_views);
  const std::size_t weight_floats = sizeof(float) * NumWeights(tables);
  const bool has_prototypes = tables.head == Head::kPrototypes;
  MemoryParts parts{};

  parts.samples = (samples_in_flash ? 0 : RoundUp(max_samples * views * features)) + RoundUp(max_samples);
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    const Layer& layer = tables.layers[tables.trained[t].layer];
    std::size_t bias_offset;
    parts.weights += LayerBytes(layer, LayoutInRam(tables, tables.trained[t]), &bias_offset);
  }
  parts.plan = PlanBytes(tables);
  parts.masters = settings.weights == WeightStorage::kFloatMasters ? RoundUp(weight_floats) : 0;
  parts.optimizer = RoundUp(sizeof(float) * OptimizerFloats(settings.optimizer, NumWeights(tables), NumRuns(tables)));
  const bool averages = has_prototypes && settings.average > 0.0f;
  parts.prototypes = has_prototypes ? RoundUp(sizeof(float) * num_classes * dimension) * (averages ? 2 : 1) : 0;
  parts.state = parts.samples + parts.plan + parts.weights + parts.masters + parts.optimizer + parts.prototypes;

  parts.features = samples_in_flash ? FlashSampleBytes(tables) : RoundUp(features);
  if (tables.num_views > 0) {
    parts.image = RoundUp(static_cast<std::size_t>(tables.image_height) * static_cast<std::size_t>(tables.image_width) *
                          static_cast<std::size_t>(tables.image_channels));
  }
  parts.weight_gradients = RoundUp(weight_floats);
  parts.activation_gradients = RoundUp(tables.gradient_bytes);
  parts.head = RoundUp(sizeof(float) * num_classes);
  if (has_prototypes) {
    parts.head += RoundUp(sizeof(float) * dimension) + RoundUp(sizeof(std::int32_t) * num_classes);
    if (settings.leave_one_out) parts.head += RoundUp(sizeof(float) * dimension);
    if (KeepsEmbeddings(tables, settings)) parts.head += RoundUp(max_samples * dimension);
    if (averages) parts.head += RoundUp(sizeof(float) * num_classes);
  }
  const std::size_t frozen = parts.features + parts.image;
  const std::size_t gradients = parts.weight_gradients + parts.activation_gradients;
  const std::size_t trainable = (gradients > parts.features ? gradients : parts.features) + parts.head;
  parts.scratch = frozen > trainable ? frozen : trainable;
  parts.total = parts.state + parts.scratch;
  return parts;
}

Buffers CutArena(const Tables& tables, const TrainingSettings& settings, const MemoryParts& parts, bool samples_in_flash,
                 std::uint8_t* arena, const Scratch& scratch) {
  const auto max_samples = static_cast<std::size_t>(settings.max_samples);
  const auto num_classes = static_cast<std::size_t>(settings.num_classes);
  Buffers b{};
  b.feature_elements = NumStored(tables);
  b.dimension = NumElements(tables.tensors[tables.num_tensors - 1]);
  b.num_weights = NumWeights(tables);
  b.num_runs = NumRuns(tables);

  Cutter state(arena);
  if (!samples_in_flash) b.samples = state.Take<std::int8_t>(parts.samples - RoundUp(max_samples));
  b.labels = state.Take<std::uint8_t>(max_samples);
  if (parts.plan > 0) b.plan = state.Take<std::uint8_t>(parts.plan);
  b.weights = state.Take<std::uint8_t>(parts.weights);
  if (parts.masters > 0) b.masters = state.Take<float>(b.num_weights);
  b.optimizer = state.Take<float>(OptimizerFloats(settings.optimizer, b.num_weights, b.num_runs));
  const bool has_prototypes = tables.head == Head::kPrototypes, averages = has_prototypes && settings.average > 0.0f;
  const auto dimension = static_cast<std::size_t>(b.dimension);
  if (has_prototypes) b.prototypes = state.Take<float>(num_classes * dimension);
  if (averages) b.original_prototypes = state.Take<float>(num_classes * dimension);

  b.features = static_cast<std::int8_t*>(static_cast<void*>(scratch.data));
  if (tables.num_views > 0) b.image = b.features + (scratch.bytes - parts.image);
  Cutter training(scratch.data);
  b.weight_gradients = training.Take<float>(b.num_weights);
  b.activations = training.Take<std::uint8_t>(parts.activation_gradients);
  Cutter head(scratch.data + scratch.bytes - parts.head);  // after the features, which Predict reads again for the average
  b.logits = head.Take<float>(num_classes);
  if (!has_prototypes) return b;
  b.embedding = head.Take<float>(dimension);
  b.counts = head.Take<std::int32_t>(num_classes);
  if (settings.leave_one_out) b.set_aside = head.Take<float>(dimension);
  if (KeepsEmbeddings(tables, settings)) b.embeddings = head.Take<std::int8_t>(max_samples * dimension);
  if (averages) b.original_logits = head.Take<float>(num_classes);
  return b;
}

Tables* PlanTables(const Buffers& buffers) { return static_cast<Tables*>(static_cast<void*>(buffers.plan)); }

TrainedLayer* PlanLayers(const Buffers& buffers) {
  return static_cast<TrainedLayer*>(static_cast<void*>(buffers.plan + kPlanTablesBytes));
}

float* PlanScores(const Buffers& buffers, const Candidates& candidates) {
  return static_cast<float*>(static_cast<void*>(buffers.plan + kPlanTablesBytes + PlanLayersBytes(candidates)));
}

std::uint16_t* PlanChannels(const Buffers& buffers, const Candidates& candidates) {
  return static_cast<std::uint16_t*>(static_cast<void*>(PlanScores(buffers, candidates)));
}

std::size_t FlashSampleBytes(const Tables& tables) {
  return RoundUpTo(kFlashBlockBytes, static_cast<std::size_t>(NumStored(tables)));
}

std::size_t FlashSamplesBytes(const Tables& tables, const TrainingSettings& settings) {
  return static_cast<std::size_t>(settings.max_samples) * (1 + static_cast<std::size_t>(tables.num_views)) *
         FlashSampleBytes(tables);
}

TrainedState TrainedAt(const Tables& tables, const Buffers& buffers, std::int32_t index) {
  std::size_t weight_offset = 0;
  std::size_t first = 0;  // index into masters and gradients
  for (std::int32_t t = 0; t < index; ++t) {
    const Layer& layer = tables.layers[tables.trained[t].layer];
    std::size_t bias_offset;
    weight_offset += LayerBytes(layer, LayoutInRam(tables, tables.trained[t]), &bias_offset);
    first += NumTrainedWeights(tables, tables.trained[t]);
  }
  TrainedState state{};
  state.trained = &tables.trained[index];
  state.layer = &tables.layers[state.trained->layer];
  state.layout = LayoutInRam(tables, *state.trained);
  std::size_t bias_offset;
  LayerBytes(*state.layer, state.layout, &bias_offset);
  std::uint8_t* weights = buffers.weights + weight_offset;
  state.kernel = static_cast<std::int8_t*>(static_cast<void*>(weights));
  state.first = first;
  if (buffers.masters != nullptr) state.masters = buffers.masters + first;
  state.d_kernel = buffers.weight_gradients + first;
  if (state.layer->bias != nullptr) {
    const std::int32_t kernel_weights = state.trained->num_channels * state.layout.weights_per_channel;
    state.bias = static_cast<std::int32_t*>(static_cast<void*>(weights + bias_offset));
    if (state.masters != nullptr) state.bias_masters = state.masters + kernel_weights;
    state.d_bias = state.d_kernel + kernel_weights;
  }
  state.input_scale = tables.tensors[state.layer->input].scale;
  return state;
}

}  // namespace tinytrain
