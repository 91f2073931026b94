#include "tinytrain_memory.h"

#include "tinytrain_optimizer.h"

namespace tinytrain {
namespace {

std::size_t RoundUp(std::size_t bytes) { return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

// Hands out 16-byte aligned pieces in order, and counts.
class Cutter {
 public:
  explicit Cutter(std::uint8_t* arena) : arena_(arena) {}

  template <typename T>
  T* Take(std::size_t count) {
    void* piece = arena_ == nullptr ? nullptr : arena_ + used_;
    used_ += RoundUp(count * sizeof(T));
    return static_cast<T*>(piece);
  }
  // Bytes taken since the last call.
  std::size_t Part() {
    const std::size_t part = used_ - reported_;
    reported_ = used_;
    return part;
  }
  std::size_t used() const { return used_; }

 private:
  std::uint8_t* arena_;
  std::size_t used_ = 0;
  std::size_t reported_ = 0;
};

std::size_t KernelBytes(const KernelLayout& layout) {
  return static_cast<std::size_t>(layout.output_channels) * static_cast<std::size_t>(layout.weights_per_channel);
}

// Bytes of a trained layer's whole kernel and bias in RAM, and where the bias begins.
std::size_t LayerBytes(const Layer& layer, const KernelLayout& layout, std::size_t* bias_offset) {
  *bias_offset = RoundUp(KernelBytes(layout));
  if (layer.bias == nullptr) return *bias_offset;
  return *bias_offset + RoundUp(static_cast<std::size_t>(layout.output_channels) * sizeof(std::int32_t));
}

// What Head::kPrototypes needs for leave_one_out and average.
void TakeOptional(const Tables& tables, const TrainingSettings& settings, std::size_t dimension, Cutter* cutter, Buffers* b) {
  const auto num_classes = static_cast<std::size_t>(settings.num_classes);
  if (settings.leave_one_out) {
    b->set_aside = cutter->Take<float>(dimension);
    // Else the sample at hand is itself its own only view, embedded with the weights that the prototypes were made with.
    const bool is_kept = tables.num_views > 0 || settings.updates == Updates::kImmediate;
    if (is_kept) b->embeddings = cutter->Take<std::int8_t>(static_cast<std::size_t>(settings.max_samples) * dimension);
  }
  if (settings.average > 0.0f) {
    b->original_prototypes = cutter->Take<float>(num_classes * dimension);
    b->original_logits = cutter->Take<float>(num_classes);
  }
}

}  // namespace

std::int32_t NumElements(const Tensor& tensor) { return tensor.height * tensor.width * tensor.channels; }

std::int32_t NumGradients(const Tensor& tensor) {
  return tensor.by_channel ? tensor.height * tensor.width : NumElements(tensor);
}

KernelLayout LayoutOf(const Tables& tables, const Layer& layer) {
  const Tensor& input = tables.tensors[layer.input];
  const std::int32_t output_channels = tables.tensors[layer.output].channels;
  const std::int32_t window = layer.kernel_height * layer.kernel_width;
  if (layer.op == Operator::kDepthwiseConv2D) return {output_channels, window, 1, output_channels};
  const std::int32_t row = layer.op == Operator::kDense ? NumElements(input) : window * input.channels;
  return {output_channels, row, row, 1};
}

bool IsPointwise(const Tables& tables, const Layer& layer) {
  const Tensor& input = tables.tensors[layer.input];
  const Tensor& output = tables.tensors[layer.output];
  return layer.op == Operator::kConv2D && layer.kernel_height == 1 && layer.kernel_width == 1 && layer.stride_height == 1 &&
         layer.stride_width == 1 && input.height == output.height && input.width == output.width;
}

std::size_t NumTrainedWeights(const Tables& tables, const TrainedLayer& trained) {
  const Layer& layer = tables.layers[trained.layer];
  const std::int32_t per_channel = LayoutOf(tables, layer).weights_per_channel + (layer.bias != nullptr ? 1 : 0);
  return static_cast<std::size_t>(trained.num_channels) * static_cast<std::size_t>(per_channel);
}

MemoryParts CutArena(const Tables& tables, const TrainingSettings& settings, std::uint8_t* arena, Buffers* buffers) {
  const std::int32_t features = NumElements(tables.tensors[0]);
  const std::int32_t dimension = NumElements(tables.tensors[tables.num_tensors - 1]);
  const auto num_features = static_cast<std::size_t>(features);
  const auto max_samples = static_cast<std::size_t>(settings.max_samples);
  const auto num_classes = static_cast<std::size_t>(settings.num_classes);
  const bool has_prototypes = tables.head == Head::kPrototypes;
  Buffers b{};
  b.feature_elements = features;
  b.dimension = dimension;
  MemoryParts parts{};
  Cutter cutter(arena);

  b.samples = cutter.Take<std::int8_t>(max_samples * (1 + static_cast<std::size_t>(tables.num_views)) * num_features);
  b.labels = cutter.Take<std::uint8_t>(max_samples);
  parts.samples = cutter.Part();

  if (tables.num_views > 0) {
    b.image = cutter.Take<std::int8_t>(static_cast<std::size_t>(tables.image_height) *
                                       static_cast<std::size_t>(tables.image_width) *
                                       static_cast<std::size_t>(tables.image_channels));
  }
  parts.image = cutter.Part();

  std::size_t weight_bytes = 0;
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    const Layer& layer = tables.layers[tables.trained[t].layer];
    std::size_t bias_offset;
    weight_bytes += LayerBytes(layer, LayoutOf(tables, layer), &bias_offset);
    b.num_weights += NumTrainedWeights(tables, tables.trained[t]);
    b.num_runs += static_cast<std::size_t>(tables.trained[t].num_channels) * (layer.bias == nullptr ? 1u : 2u);
  }
  b.weights = cutter.Take<std::uint8_t>(weight_bytes);
  parts.weights = cutter.Part();

  if (settings.weights == WeightStorage::kFloatMasters) b.masters = cutter.Take<float>(b.num_weights);
  parts.masters = cutter.Part();
  b.weight_gradients = cutter.Take<float>(b.num_weights);
  parts.weight_gradients = cutter.Part();
  b.optimizer = cutter.Take<float>(OptimizerFloats(settings.optimizer, b.num_weights, b.num_runs));
  parts.optimizer = cutter.Part();

  const std::size_t gradient_bytes = tables.gradient_bytes > num_features ? tables.gradient_bytes : num_features;
  b.activations = cutter.Take<std::uint8_t>(gradient_bytes);
  parts.activation_gradients = cutter.Part();

  if (has_prototypes) {
    b.prototypes = cutter.Take<float>(num_classes * static_cast<std::size_t>(dimension));
    b.embedding = cutter.Take<float>(static_cast<std::size_t>(dimension));
    b.counts = cutter.Take<std::int32_t>(num_classes);
    TakeOptional(tables, settings, static_cast<std::size_t>(dimension), &cutter, &b);
  }
  b.logits = cutter.Take<float>(num_classes);
  parts.prototypes = cutter.Part();

  parts.total = cutter.used();
  if (buffers != nullptr) *buffers = b;
  return parts;
}

TrainedState TrainedAt(const Tables& tables, const Buffers& buffers, std::int32_t index) {
  std::size_t weight_offset = 0;
  std::size_t first = 0;  // index into masters and gradients
  for (std::int32_t t = 0; t < index; ++t) {
    const Layer& layer = tables.layers[tables.trained[t].layer];
    std::size_t bias_offset;
    weight_offset += LayerBytes(layer, LayoutOf(tables, layer), &bias_offset);
    first += NumTrainedWeights(tables, tables.trained[t]);
  }
  TrainedState state{};
  state.trained = &tables.trained[index];
  state.layer = &tables.layers[state.trained->layer];
  state.layout = LayoutOf(tables, *state.layer);
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
