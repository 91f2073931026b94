// The tables: one trainable graph as plain constants in flash, written by the exporter and read by the runtime.
//
// The frozen part of a model is not in them. The trainable part is the stock int8 model `trainable.tflite`; these tables
// describe its backward pass: the tensors of each layer, their scales, and the channels that are trained.
// Lifetime: everything pointed to must outlive the Trainer. Ownership: none is taken.
#ifndef TINYTRAIN_TABLES_H_
#define TINYTRAIN_TABLES_H_

#include <cstddef>
#include <cstdint>

namespace tinytrain {

// Raised with every change of a struct below. Generated tables check it at compile time, Trainer::Init at run time.
constexpr std::uint32_t kTablesVersion = 6;

constexpr std::int32_t kNone = -1;          // "no such tensor / buffer / layer / class"
constexpr std::int32_t kStoredSample = -2;  // Tensor::kept: it lies in the stored sample

enum class Operator : std::uint8_t {
  kConv2D = 0,           // kernel [out][kernel_height][kernel_width][in], groups 1
  kDepthwiseConv2D = 1,  // kernel [kernel_height][kernel_width][channels], depth multiplier 1
  kDense = 2,            // kernel [out][in]; input is height x width x channels flattened
  kAdd = 3,              // input + input2, equal shapes
  kAveragePool2D = 4,    // window kernel_height x kernel_width; the mean does not count the padding
  kActivation = 5,       // stand-alone ReLU or ReLU6
  kReshape = 6,          // same elements, other shape
  kMaxPool2D = 7,        // window kernel_height x kernel_width; the first of equal maxima, row by row, has the gradient
  kPad = 8,              // pad_top rows above, pad_left columns to the left, the others below and to the right
  kLeakyRelu = 9,        // input where it is positive, else slope * input
  kMultiply = 10,        // input * input2, equal shapes, or one of them 1 x 1 x channels
  kScale = 11,           // slope * input
  kLogistic = 12,        // 1 / (1 + e^-input)
  kHardSwish = 13,       // input * min(max(input + 3, 0), 6) / 6
  kConcatenate = 14,     // the channels of input, then those of input2
  kTanh = 15,
  kElu = 16,         // input where it is positive, else e^input - 1
  kPrelu = 17,       // input where it is positive, else kernel_scales[channel] * input
  kDenseAlong = 18,  // kernel [out][in], at each of height x width positions
};

enum class Activation : std::uint8_t { kLinear = 0, kRelu = 1, kRelu6 = 2 };  // fused into the layer: applied to its output

enum class Head : std::uint8_t {
  kPrototypes = 0,  // last tensor = embedding z; logit_k = logit_scale * cos(z, prototype_k)
  kSoftmax = 1,     // last tensor = logits
};

enum class Optimizer : std::uint8_t {
  kSgd = 0,
  kMomentum = 1,        // one state float a weight
  kAdam = 2,            // two
  kAdamPerChannel = 3,  // one a weight, one a channel's kernel, one its bias: Adam with one second moment for each of those
  kRmsprop = 4,         // one a weight
};

// How trained weights are stored between two steps. Biases are int32 on a grid some hundred times finer than the kernels'.
enum class WeightStorage : std::uint8_t {
  kFloatMasters = 0,  // as float32, rounded to the nearest int8 for the forward pass
  kInt8 = 1,          // as the int8 of the forward pass only, with stochastic rounding: the mean of a step is exact
};

// The rank of candidate layers: Fisher potential P, or P divided by the layer's weights W, its multiply-accumulates M, or both.
// W and M are shares of the largest candidate's.
enum class Criterion : std::uint8_t {
  kPotential = 0,
  kPerWeight = 1,
  kPerMac = 2,
  kPerWeightAndMac = 3,  // TinyTrain's: P / (W * M)
};

// The moments of optimizer steps.
enum class Updates : std::uint8_t {
  kAccumulated = 0,  // once an iteration, by the mean gradient of all samples
  kImmediate = 1,    // after each sample, by its gradient alone
};

constexpr std::int32_t kMaxPlanes = 16;

// One int8 activation, NHWC with batch 1: real value = scale * (q - zero_point).
//
// A stored sample begins with the trainable part's input, tensors[0]. Maps that the frozen part has computed follow it, in the
// order of the tensors: those with kStoredSample, which no layer of the trainable part reads or writes.
struct Tensor {
  std::int32_t height;
  std::int32_t width;
  std::int32_t channels;
  float scale;
  std::int32_t zero_point;
  std::int32_t kept;             // the output of trainable.tflite that holds it; kStoredSample; kNone: backward never reads it
  std::int32_t gradient_offset;  // bytes into the gradient region (float32, same shape); kNone: no gradient flows here
  std::int32_t num_planes;       // bottleneck interior: channels whose gradient exists at a time, a plane [height][width] each,
                                 // at most kMaxPlanes (tinytrain/backward/backward.h); 0: the whole gradient exists
};

// One operator of the trainable part. Layers stand in execution order; the backward pass goes from the last to the first.
struct Layer {
  Operator op;
  Activation activation;
  bool accumulate_input;   // add to d_input, which a later layer has written already; false: overwrite it
  bool accumulate_input2;  // the same for input2
  std::int32_t input;      // index into Tables::tensors
  std::int32_t input2;     // kAdd, kMultiply, kConcatenate; kNone for others
  std::int32_t output;
  std::int32_t kernel_height;  // 1 if the operator has no window
  std::int32_t kernel_width;
  std::int32_t stride_height;
  std::int32_t stride_width;
  std::int32_t pad_top;
  std::int32_t pad_left;
  float slope;                 // kLeakyRelu: at least 0; kScale
  const std::int8_t* kernel;   // initial weights, in flash; nullptr: the operator has none. See TrainedLayer::kernel
  const float* kernel_scales;  // [output channels], symmetric; dense: the one scale, repeated; kPrelu: slopes, at least 0
  const std::int32_t* bias;    // [output channels], scale = input scale * kernel scale; nullptr: none
};

// A layer with trained output channels.
struct TrainedLayer {
  const char* name;            // the Keras layer's name, as written into a delta; at most 255 bytes
  std::int32_t layer;          // index into Tables::layers
  std::int32_t kernel_tensor;  // tensor indices in trainable.tflite, for Model::bind
  std::int32_t bias_tensor;    // kNone: the layer has no bias
  std::int32_t num_channels;
  const std::uint16_t* channels;  // [num_channels], ascending; nullptr (a candidate): all output channels
  // A split layer has a kernel here: its trained channels are a convolution of their own in trainable.tflite, and RAM holds
  // only these. `kernel` has their initial weights, [num_channels][weights per channel]. Layer::kernel and Layer::bias have
  // those of the other channels, ascending. kernel_tensor and bias_tensor are those of the trained channels. nullptr: the layer
  // is not split. Depthwise convolutions never are.
  const std::int8_t* kernel;
  const std::int32_t* bias;  // [num_channels]; nullptr: no kernel here, or the layer has no bias
};

// An augmented copy of a sample, made by AddSample: out[y][x] = from[clamp(y - shift_y)][clamp(x - shift_x)].
struct View {
  std::int16_t shift_y;
  std::int16_t shift_x;
  bool mirrored;  // from is the mirror image, from[y][x] = in[y][image_width - 1 - x]; false: the image itself
};

// How to train, unless Trainer::Init gets other settings.
struct TrainingSettings {
  Optimizer optimizer;
  WeightStorage weights;
  Updates updates;
  bool leave_one_out;  // Head::kPrototypes: in its loss, a sample's class has a prototype without the sample's own embedding
  float learning_rate;
  float momentum;     // kMomentum: velocity decay; Adam: beta 1
  float beta_2;       // Adam; kRmsprop: rho
  float epsilon;      // Adam, kRmsprop
  float logit_scale;  // Head::kPrototypes
  float average;      // Head::kPrototypes: share of the original weights in Predict's logits, 0 to 1
  std::int32_t iterations;
  std::int32_t num_classes;  // at most 255
  std::int32_t max_samples;
  std::uint32_t seed;  // WeightStorage::kInt8: of the stochastic rounding
  // What training leaves out, see tinytrain.h; 0 and false: nothing. Init refuses others where TINYTRAIN_EXACT is defined.
  float stop_loss;       // Train ends after an iteration whose mean loss is below
  float skip_loss;       // a sample whose loss is below has no backward pass
  bool late_prototypes;  // Head::kPrototypes: those of the iteration before
  bool only_if_needed;   // a second head: Train does nothing where its solution is right for every sample that it leaves out
};

// A program that never leaves anything out may define TINYTRAIN_EXACT for all sources, for 300 bytes less of code.
#ifdef TINYTRAIN_EXACT
constexpr bool kMayLeaveOut = false;
#else
constexpr bool kMayLeaveOut = true;
#endif

// The candidates of a device that chooses by itself (tinytrain/trainer/selection.h). Until it has chosen, Tables::trained lists
// the candidates, none of them split. All 0: the trained channels were chosen at export.
struct Candidates {
  std::int32_t num_layers;    // at most kMaxCandidates
  std::int32_t num_channels;  // of all candidates together
  Criterion criterion;
  std::uint32_t backward_macs;  // most multiply-accumulates of one sample's backward pass, unless Select has a budget
};

// What answers where there is a closed-form head (tinytrain_closed_form.h).
enum class HeadChoice : std::uint8_t {
  kClosedForm = 0,
  kUnlessWorse = 1,  // it, unless the prototypes get more samples right
  kIfBetter = 2,     // it, if it gets more samples right by more than chance: of windows in time
};

// The maps that a closed-form head reads beside the embedding (tinytrain_closed_form.h); they are not in Tables, since not all
// bundles have them.
struct Maps {
  std::int32_t num_maps;
  const std::int32_t* tensors;  // [num_maps], indices into Tables::tensors: outputs of trainable.tflite, or stored
  // Unknown samples are told at a rate: bounds[n - 2] = t sqrt(1 + 1 / n), with Student's t of n - 1 degrees of freedom, which
  // a further one exceeds at that rate. So many standard deviations above the mean of n scores lies the threshold.
  std::int32_t num_bounds;  // for n of 2 to num_bounds + 1; of more, the last. 0: every sample is of a class
  const float* bounds;      // [num_bounds]
  HeadChoice choice;
  std::int32_t prototype_iterations;  // of Train where the prototypes answer, in place of TrainingSettings::iterations
  bool late_prototypes;               // and of late_prototypes there
};

struct Tables {
  std::uint32_t version;       // kTablesVersion
  std::uint8_t base_hash[32];  // SHA-256 of the int8 model before it was cut: the same for every cut, so a delta fits each
  Head head;

  std::int32_t image_height;  // input of the model, int8
  std::int32_t image_width;
  std::int32_t image_channels;
  float image_scale;
  std::int32_t image_zero_point;

  std::int32_t num_tensors;  // tensors[0] is the trainable part's input, tensors[num_tensors - 1] the head's input
  const Tensor* tensors;
  std::int32_t num_layers;
  const Layer* layers;
  std::int32_t num_trained;  // at least 1, in layer order
  const TrainedLayer* trained;
  std::int32_t num_outputs;  // outputs of trainable.tflite
  std::int32_t head_output;  // the output that is the head's input
  std::int32_t num_views;    // augmented copies of a sample, in addition to itself; 0: the sample is its own query
  const View* views;
  std::size_t gradient_bytes;  // size of the region that Tensor::gradient_offset points into

  TrainingSettings training;
  Candidates candidates;
};

}  // namespace tinytrain

#endif  // TINYTRAIN_TABLES_H_
