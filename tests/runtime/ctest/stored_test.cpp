// A stored sample from the outputs of a frozen part, wherever in the arena they lie and wherever in it the sample goes.
#include "check.h"

#include <algorithm>

#include "tinytrain_tflm.h"

namespace {

// As much of an interpreter as the adapter touches.
struct Dims {
  int size;
  int data[1];
};
struct Tensor {
  union {
    std::int8_t* int8;
    void* data;
  } data;
  Dims* dims;
};
struct Indices {
  int Get(unsigned int i) const { return static_cast<int>(i); }
};
struct Context {
  Tensor* (*GetEvalTensor)(const Context*, int);
  Tensor* tensors;
};
class Interpreter {
 public:
  Interpreter(Tensor* tensors, std::size_t num_outputs) : context_{&Get, tensors}, num_outputs_(num_outputs) {}
  const Indices& inputs() const { return indices_; }
  const Indices& outputs() const { return indices_; }
  std::size_t outputs_size() const { return num_outputs_; }
  int Invoke() { return 0; }

 protected:
  const Context& context() const { return context_; }

 private:
  static Tensor* Get(const Context* context, int index) { return &context->tensors[index]; }
  Context context_;
  Indices indices_;
  std::size_t num_outputs_;
};
using Bindable = tinytrain::BindableInterpreter<Interpreter>;

constexpr int kSizes[] = {5, 3, 8, 1};
constexpr std::size_t kNumOutputs = 4, kAll = 17, kArena = 40;

// Outputs in the order `order` of their addresses, with `gap` bytes before each.
void Gathered(const std::size_t (&order)[kNumOutputs], int gap) {
  std::int8_t arena[kArena] = {}, expected[kAll];
  Dims dims[kNumOutputs];
  Tensor tensors[kNumOutputs];
  std::int8_t* place = arena;
  for (const std::size_t i : order) {
    place += gap;
    dims[i] = {1, {kSizes[i]}};
    tensors[i].data.int8 = place;
    tensors[i].dims = &dims[i];
    place += kSizes[i];
  }
  std::int8_t value = 1, *to = expected;
  for (std::size_t i = 0; i < kNumOutputs; ++i) {
    for (int k = 0; k < kSizes[i]; ++k) *to++ = tensors[i].data.int8[k] = value++;
  }
  Bindable interpreter(tensors, kNumOutputs);
  tinytrain::Int8Tensor all{};
  check::True("gathered", interpreter.GatherOutputs(&all));
  check::True("as long as all outputs", all.num_bytes == kAll && interpreter.OutputBytes() == kAll);
  check::True("in memory of outputs", all.data >= arena && all.data + all.num_bytes <= place);
  check::True("in the order of the outputs", std::equal(expected, expected + kAll, all.data));
}

void TooMany() {
  std::int8_t byte = 0;
  Dims one = {1, {1}};
  Tensor tensors[tinytrain::kMaxStored + 1];
  for (Tensor& tensor : tensors) {
    tensor.data.int8 = &byte;
    tensor.dims = &one;
  }
  tinytrain::Int8Tensor all{};
  check::True("more outputs than a sample has", !Bindable(tensors, tinytrain::kMaxStored + 1).GatherOutputs(&all));
  check::True("no output", !Bindable(tensors, 0).GatherOutputs(&all));
  tensors[1].data.int8 = nullptr;
  check::True("without memory", !Bindable(tensors, 2).GatherOutputs(&all));
}

}  // namespace

int main() {
  std::size_t order[kNumOutputs] = {0, 1, 2, 3};
  do {
    for (int gap = 0; gap < 5; ++gap) Gathered(order, gap);
  } while (std::next_permutation(order, order + kNumOutputs));
  TooMany();
  return check::Result("stored");
}
