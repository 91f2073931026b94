// The fields of a .tflite file that the stand-in reads, by their numbers in TensorFlow Lite's schema.fbs.
#ifndef TENSORFLOW_LITE_SCHEMA_SCHEMA_GENERATED_H_
#define TENSORFLOW_LITE_SCHEMA_SCHEMA_GENERATED_H_

#include <cstdint>

#include "flatbuffers/flatbuffers.h"

namespace tflite {

using flatbuffers::Vector;

enum BuiltinOperator : std::int32_t {
  BuiltinOperator_CONV_2D = 3,
  BuiltinOperator_DEPTHWISE_CONV_2D = 4,
  BuiltinOperator_FULLY_CONNECTED = 9,
  BuiltinOperator_RESHAPE = 22,
};

struct OperatorCode : flatbuffers::Table {
  BuiltinOperator builtin_code() const { return static_cast<BuiltinOperator>(Scalar<std::int32_t>(3, 0)); }
};
struct QuantizationParameters : flatbuffers::Table {
  const Vector<float>* scale() const { return Pointer<Vector<float>>(2); }
  const Vector<std::int64_t>* zero_point() const { return Pointer<Vector<std::int64_t>>(3); }
};
struct Tensor : flatbuffers::Table {
  const Vector<std::int32_t>* shape() const { return Pointer<Vector<std::int32_t>>(0); }
  std::int8_t type() const { return Scalar<std::int8_t>(1, 0); }
  std::uint32_t buffer() const { return Scalar<std::uint32_t>(2, 0); }
  const QuantizationParameters* quantization() const { return Pointer<QuantizationParameters>(4); }
};
struct Conv2DOptions : flatbuffers::Table {
  bool same() const { return Scalar<std::int8_t>(0, 0) == 0; }
  std::int32_t stride_w() const { return Scalar<std::int32_t>(1, 0); }
  std::int32_t stride_h() const { return Scalar<std::int32_t>(2, 0); }
  std::int8_t activation(bool depthwise) const { return Scalar<std::int8_t>(depthwise ? 4 : 3, 0); }
};
struct FullyConnectedOptions : flatbuffers::Table {
  std::int8_t activation() const { return Scalar<std::int8_t>(0, 0); }
};
struct Operator : flatbuffers::Table {
  std::uint32_t opcode_index() const { return Scalar<std::uint32_t>(0, 0); }
  const Vector<std::int32_t>* inputs() const { return Pointer<Vector<std::int32_t>>(1); }
  const Vector<std::int32_t>* outputs() const { return Pointer<Vector<std::int32_t>>(2); }
  template <class Options>
  const Options* options() const {
    return Pointer<Options>(4);
  }
};
struct SubGraph : flatbuffers::Table {
  const Vector<Tensor>* tensors() const { return Pointer<Vector<Tensor>>(0); }
  const Vector<std::int32_t>* inputs() const { return Pointer<Vector<std::int32_t>>(1); }
  const Vector<std::int32_t>* outputs() const { return Pointer<Vector<std::int32_t>>(2); }
  const Vector<Operator>* operators() const { return Pointer<Vector<Operator>>(3); }
};
struct Buffer : flatbuffers::Table {
  const Vector<std::uint8_t>* data() const { return Pointer<Vector<std::uint8_t>>(0); }
};
struct Model : flatbuffers::Table {
  const Vector<OperatorCode>* operator_codes() const { return Pointer<Vector<OperatorCode>>(1); }
  const Vector<SubGraph>* subgraphs() const { return Pointer<Vector<SubGraph>>(2); }
  const Vector<Buffer>* buffers() const { return Pointer<Vector<Buffer>>(4); }
};

inline const Model* GetModel(const void* file) {
  return reinterpret_cast<const Model*>(flatbuffers::Follow(static_cast<const std::uint8_t*>(file)));
}

}  // namespace tflite

#endif  // TENSORFLOW_LITE_SCHEMA_SCHEMA_GENERATED_H_
