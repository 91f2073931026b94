// TensorFlow Lite's C structs, as far as the runtime could meet them. TfLiteTensor has two layouts.
#ifndef TENSORFLOW_LITE_C_COMMON_H_
#define TENSORFLOW_LITE_C_COMMON_H_

#include <cstddef>
#include <cstdint>

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
enum TfLiteType { kTfLiteInt32 = 2, kTfLiteInt8 = 9 };
enum TfLiteAllocationType { kTfLiteMmapRo = 1, kTfLiteArenaRw = 2 };

struct TfLiteIntArray {
  int size;
  int data[1];  // so many as `size` says
};
union TfLitePtrUnion {
  std::int8_t* int8;
  void* data;
};
struct TfLiteQuantizationParams {
  float scale;
  std::int32_t zero_point;
};
struct TfLiteQuantization {
  int type;
  void* params;
};

#ifndef TF_LITE_STATIC_MEMORY
struct TfLiteTensor {  // 64 B on a Cortex-M
  TfLiteType type;
  TfLitePtrUnion data;
  TfLiteIntArray* dims;
  TfLiteQuantizationParams params;
  TfLiteAllocationType allocation_type;
  std::size_t bytes;
  const void* allocation;
  const char* name;
  void* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  TfLiteQuantization quantization;
  void* sparsity;
  const TfLiteIntArray* dims_signature;
};
#else
struct TfLiteTensor {  // 32 B
  TfLiteQuantization quantization;
  TfLiteQuantizationParams params;
  TfLitePtrUnion data;
  TfLiteIntArray* dims;
  std::size_t bytes;
  TfLiteType type;
  TfLiteAllocationType allocation_type;
  bool is_variable;
};
#endif

struct TfLiteEvalTensor {
  TfLitePtrUnion data;
  TfLiteIntArray* dims;
  TfLiteType type;
};

struct TfLiteContext {
  TfLiteEvalTensor* (*GetEvalTensor)(const TfLiteContext* context, int tensor_index);
  void* impl_;
};

#endif  // TENSORFLOW_LITE_C_COMMON_H_
