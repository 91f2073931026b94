// TensorFlow Lite's C structs, as far as the runtime could meet them, or as they fill the arena. Tensors and nodes have two
// layouts.
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

struct TfLiteNode {  // 28 B on a Cortex-M, or 40
  TfLiteIntArray *inputs, *outputs, *intermediates;
#ifndef TF_LITE_STATIC_MEMORY
  TfLiteIntArray* temporaries;
#endif
  void *user_data, *builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
#ifndef TF_LITE_STATIC_MEMORY
  void* delegate;
  bool might_have_side_effect;
#endif
};

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
