// The operators that a program names, each once. A place costs RAM, as it does in TensorFlow Lite Micro.
#ifndef TENSORFLOW_LITE_MICRO_MICRO_MUTABLE_OP_RESOLVER_H_
#define TENSORFLOW_LITE_MICRO_MICRO_MUTABLE_OP_RESOLVER_H_

#include "fixedpoint/fixedpoint.h"
#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace tflite {

struct TFLMRegistration {
  BuiltinOperator builtin_code;
  const char* custom_name;
  void* functions[7];
};

class MicroOpResolver {
 public:
  virtual bool Has(BuiltinOperator code) const = 0;

 protected:
  ~MicroOpResolver() = default;
};

template <unsigned int kCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  TfLiteStatus AddConv2D() { return Add(BuiltinOperator_CONV_2D); }
  TfLiteStatus AddDepthwiseConv2D() { return Add(BuiltinOperator_DEPTHWISE_CONV_2D); }
  TfLiteStatus AddFullyConnected() { return Add(BuiltinOperator_FULLY_CONNECTED); }
  TfLiteStatus AddReshape() { return Add(BuiltinOperator_RESHAPE); }
#ifdef STAND_IN_NAMES_MORE  // for sketches that are compiled and not run
  TfLiteStatus AddAdd() { return kTfLiteError; }
  TfLiteStatus AddAveragePool2D() { return kTfLiteError; }
  TfLiteStatus AddConcatenation() { return kTfLiteError; }
  TfLiteStatus AddGather() { return kTfLiteError; }
  TfLiteStatus AddMean() { return kTfLiteError; }
  TfLiteStatus AddPad() { return kTfLiteError; }
  TfLiteStatus AddRelu() { return kTfLiteError; }
#endif
  bool Has(BuiltinOperator code) const override {
    for (unsigned int i = 0; i < count_; ++i) {
      if (registrations_[i].builtin_code == code) return true;
    }
    return false;
  }

 private:
  TfLiteStatus Add(BuiltinOperator code) {
    if (count_ == kCount) return kTfLiteError;
    registrations_[count_++].builtin_code = code;
    return kTfLiteOk;
  }
  TFLMRegistration registrations_[kCount] = {};
  unsigned int count_ = 0;
};

}  // namespace tflite

#endif  // TENSORFLOW_LITE_MICRO_MICRO_MUTABLE_OP_RESOLVER_H_
