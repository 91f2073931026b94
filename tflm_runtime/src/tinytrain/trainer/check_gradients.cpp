#include "tinytrain/trainer/check_gradients.h"

#include "tinytrain/backward/operators.h"
#include "tinytrain/memory/memory.h"

namespace tinytrain {
namespace {

// The layer that writes a tensor. kNone: no gradient reaches the tensor, and no layer of the tables has to compute it. -2:
// there are two such layers, or none where there must be one.
std::int32_t ProducerOf(const Tables& tables, std::int32_t tensor) {
  std::int32_t producer = kNone;
  for (std::int32_t l = 0; l < tables.num_layers; ++l) {
    if (tables.layers[l].output != tensor) continue;
    if (producer != kNone) return -2;
    producer = l;
  }
  return producer == kNone && tensor != 0 && HasGradient(tables, tensor) ? -2 : producer;
}

bool ProducedBefore(const Tables& tables, std::int32_t tensor, std::int32_t layer) {
  const std::int32_t producer = ProducerOf(tables, tensor);
  return producer != -2 && producer < layer;
}

bool Reads(const Layer& layer, std::int32_t tensor) { return layer.input == tensor || layer.input2 == tensor; }

// The last layer before `end` through which a gradient flows into the tensor; kNone if there is none.
std::int32_t LastReader(const Tables& tables, std::int32_t tensor, std::int32_t begin, std::int32_t end) {
  for (std::int32_t l = end - 1; l >= begin; --l) {
    if (Reads(tables.layers[l], tensor) && HasGradient(tables, tables.layers[l].output)) return l;
  }
  return kNone;
}

// The backward step of a layer. The layers of a bottleneck that goes by channel share the step of the block's last layer.
std::int32_t StepOf(const Tables& tables, std::int32_t layer) {
  while (layer >= 0 && tables.tensors[tables.layers[layer].output].num_planes > 0) ++layer;  // its reader: InteriorIsValid
  return layer;
}

// The backward step at which a gradient is first written: num_layers for the head's.
std::int32_t FirstWritten(const Tables& tables, std::int32_t tensor) {
  if (tensor == tables.num_tensors - 1) return tables.num_layers;
  return StepOf(tables, LastReader(tables, tensor, 0, tables.num_layers));
}

bool AccumulateFlagsAreRight(const Tables& tables, std::int32_t index) {
  const Layer& layer = tables.layers[index];
  const auto written = [&](std::int32_t tensor) {
    return tensor == tables.num_tensors - 1 || LastReader(tables, tensor, index + 1, tables.num_layers) != kNone;
  };
  if (HasGradient(tables, layer.input) && layer.accumulate_input != written(layer.input)) return false;
  if (layer.input2 == kNone || !HasGradient(tables, layer.input2)) return true;
  return layer.accumulate_input2 == (written(layer.input2) || layer.input2 == layer.input);
}

// Whether the places of two gradients are valid: apart in memory, or in time (d_x is alive from backward step FirstWritten(x)
// down to that of ProducerOf(x)), or one becomes the other in a layer that works in place.
bool GradientsKeepApart(const Tables& tables, std::int32_t x, std::int32_t y) {
  const Tensor& a = tables.tensors[x];
  const Tensor& b = tables.tensors[y];
  if (GradientEnd(a) <= b.gradient_offset || GradientEnd(b) <= a.gradient_offset) return true;
  const std::int32_t x_last = StepOf(tables, ProducerOf(tables, x)), y_last = StepOf(tables, ProducerOf(tables, y));
  const std::int32_t x_first = FirstWritten(tables, x), y_first = FirstWritten(tables, y);
  if (x_first < y_last || y_first < x_last) return true;
  const std::int32_t handover = x_first == y_last ? y_last : y_first == x_last ? x_last : kNone;
  return handover >= 0 && handover < tables.num_layers && RowOf(tables.layers[handover].op).Has(kInPlace) &&
         a.gradient_offset == b.gradient_offset;
}

// A tensor of a bottleneck interior is read by the next layer only. Either a depthwise convolution writes it and a 1 x 1
// convolution reads it; then the depthwise convolution's input is of the interior, too, or has no gradient. Or a 1 x 1
// convolution, whose own input has a whole gradient, writes it and a depthwise convolution reads it.
bool InteriorIsValid(const Tables& tables, std::int32_t index) {
  const std::int32_t producer = ProducerOf(tables, index);
  if (producer < 0 || producer + 1 >= tables.num_layers) return false;
  for (std::int32_t l = 0; l < tables.num_layers; ++l) {
    if (Reads(tables.layers[l], index) != (l == producer + 1)) return false;
  }
  const Layer& layer = tables.layers[producer];
  const Layer& reader = tables.layers[producer + 1];
  if (layer.op == Operator::kDepthwiseConv2D) {
    const Tensor& input = tables.tensors[layer.input];
    return IsPointwise(tables, reader) && (input.num_planes > 0 || !HasGradient(tables, layer.input));
  }
  if (tables.tensors[layer.input].num_planes > 0) return false;
  return IsPointwise(tables, layer) && reader.op == Operator::kDepthwiseConv2D && tables.tensors[reader.output].num_planes > 0;
}

// Whether the values are kept that the backward pass of a layer reads: for its activation and for its operator.
bool ValuesAreKept(const Tables& tables, const Layer& layer) {
  const OperatorRow& row = RowOf(layer.op);
  const bool goes_on = HasGradient(tables, layer.input);
  const bool reads_output = layer.activation != Activation::kLinear || (goes_on && row.Has(kReadsOutput));
  if (reads_output && tables.tensors[layer.output].kept == kNone) return false;
  if (row.Has(kReadsOther) && goes_on && tables.tensors[layer.input2].kept == kNone) return false;
  if (row.Has(kReadsOther) && HasGradient(tables, layer.input2) && tables.tensors[layer.input].kept == kNone) return false;
  return !(goes_on && row.Has(kReadsInput)) || tables.tensors[layer.input].kept != kNone;
}

}  // namespace

bool OrderIsValid(const Tables& tables) {
  if (ProducerOf(tables, 0) != kNone) return false;
  for (std::int32_t l = 0; l < tables.num_layers; ++l) {
    const Layer& layer = tables.layers[l];
    if (ProducerOf(tables, layer.output) != l || !ProducedBefore(tables, layer.input, l)) return false;
    if (layer.input2 != kNone && !ProducedBefore(tables, layer.input2, l)) return false;
  }
  return true;
}

bool GradientsAreValid(const Tables& tables) {
  for (std::int32_t x = 0; x < tables.num_tensors; ++x) {
    if (tables.tensors[x].num_planes > 0 && !InteriorIsValid(tables, x)) return false;
  }
  if (!HasGradient(tables, tables.num_tensors - 1)) return false;
  for (std::int32_t x = 0; x < tables.num_tensors; ++x) {
    if (!HasGradient(tables, x)) continue;
    if (FirstWritten(tables, x) == kNone) return false;
    for (std::int32_t y = x + 1; y < tables.num_tensors; ++y) {
      if (HasGradient(tables, y) && !GradientsKeepApart(tables, x, y)) return false;
    }
  }
  for (std::int32_t l = 0; l < tables.num_layers; ++l) {
    const Layer& layer = tables.layers[l];
    if (!HasGradient(tables, layer.output)) continue;
    if (!ValuesAreKept(tables, layer)) return false;
    if (!AccumulateFlagsAreRight(tables, l)) return false;
  }
  return true;
}

}  // namespace tinytrain
