// The Trainer, with Python callables as forward passes. One class, so one file.
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tinytrain/memory/weights.h"
#include "binding.h"
#include "flash.h"
#include "tinytrain_closed_form.h"

namespace {

Int8Array Copy(const std::int8_t* data, const std::vector<py::ssize_t>& shape) {
  Int8Array array(shape);
  std::memcpy(array.mutable_data(), data, static_cast<std::size_t>(array.nbytes()));
  return array;
}

// A contiguous int8 array of exactly `elements` elements, or ValueError.
Int8Array Int8From(const py::handle& value, std::int64_t elements, const char* what) {
  if (!py::isinstance<py::array>(value) || !py::array_t<std::int8_t>::check_(value)) {
    throw py::value_error(std::string(what) + " must be an int8 numpy array, received " +
                          std::string(py::str(py::getattr(value, "dtype", py::type::of(value)))));
  }
  Int8Array array = Int8Array::ensure(value);
  if (!array) throw py::error_already_set();
  if (array.size() != elements) {
    throw py::value_error(std::string(what) + " must have " + std::to_string(elements) + " elements, received " +
                          std::to_string(array.size()));
  }
  return array;
}

// One call at a time: other threads wait. A call from within a call, such as from `progress`, would wait for itself:
// RuntimeError.
class InUse {
 public:
  class By {
   public:
    explicit By(InUse* in_use) : in_use_(in_use) {
      if (in_use_->thread_ == std::this_thread::get_id()) {
        throw std::runtime_error("the trainer is in use by the call that this one was made from: wait until it has returned");
      }
      const py::gil_scoped_release others_may_finish;
      in_use_->mutex_.lock();
      in_use_->thread_ = std::this_thread::get_id();
    }
    ~By() {
      in_use_->thread_ = std::thread::id();
      in_use_->mutex_.unlock();
    }
    By(const By&) = delete;
    By& operator=(const By&) = delete;

   private:
    InUse* in_use_;
  };

 private:
  std::mutex mutex_;
  std::atomic<std::thread::id> thread_{std::thread::id()};
};

// The scratch has memory of its own, which every run of the frozen part overwrites, as on a device where both share one arena.
// So a value that the trainer keeps there too long, or writes too early, changes a test's result.
class PyTrainer {
 public:
  PyTrainer(std::uintptr_t tables, py::object run_trainable, py::object run_frozen, py::object bind, py::object settings,
            py::object arena, py::object owner, bool share, py::object flash, std::size_t arena_bytes,
            std::size_t scratch_bytes, std::uintptr_t maps)
      : tables_(TablesAt(tables)),
        run_trainable_(std::move(run_trainable)),
        run_frozen_(std::move(run_frozen)),
        bind_(std::move(bind)),
        owner_(std::move(owner)) {
    const tt::TrainingSettings values = SettingsFrom(tables_, settings);
    if (!flash.is_none()) flash_ = std::make_unique<PyFlash>(flash);
    const tt::MemoryParts parts = RequiredParts(tables_, values, flash_ != nullptr);
    const std::size_t required = share ? parts.state : parts.total;
    if (maps != 0) maps_ = MapsAt(maps);
    const tt::ClosedFormBytes closed = maps_ ? ClosedBytes(tables_, *maps_, values, flash_ != nullptr) : tt::ClosedFormBytes{};
    // Without flash the rows have no other place; without a size, neither.
    scratch_bytes = std::max(scratch_bytes, flash_ && scratch_bytes > 0 ? closed.scratch : closed.scratch_rows);
    arena_ = arena.is_none() ? AllocateArena(std::max(required, arena_bytes)) : arena.cast<py::array>();
    PyFlash::ExpectBytes(arena_, "the arena");
    tt::Model model = {this, run_frozen_.is_none() ? nullptr : &RunFrozen, &RunTrainable, &Bind};
    if (share) {
      scratch_ = AllocateArena(std::max(parts.scratch, scratch_bytes));
      model.open_trainable = &OpenTrainable;
      model.scratch = scratch_.mutable_data();
      model.scratch_bytes = static_cast<std::size_t>(scratch_.nbytes());
    }
    auto* data = static_cast<std::uint8_t*>(arena_.mutable_data());
    const auto bytes = static_cast<std::size_t>(arena_.nbytes());
    const tt::Flash sample_flash = flash_ ? flash_->flash() : tt::Flash{};
    CheckCalled(trainer_.Init(tables_, values, model, data, bytes, flash_ ? &sample_flash : nullptr),
                ": received " + std::to_string(bytes) + " bytes, required " + std::to_string(required));
    if (maps_ == nullptr) return;
    closed_form_memory_ = AllocateArena(closed.state);
    CheckCalled(closed_form_.Init(&trainer_, *maps_, closed_form_memory_.mutable_data(), closed.state),
                ": the closed-form head needs " + std::to_string(closed.scratch_rows) + " bytes of scratch, received " +
                    std::to_string(scratch_.nbytes()));
  }
  PyTrainer(const PyTrainer&) = delete;
  PyTrainer& operator=(const PyTrainer&) = delete;

  void AddSample(const py::object& image, std::int32_t label) {
    const InUse::By this_call(&in_use_);
    CheckCalled(trainer_.AddSample(Int8From(image, ImageElements(), "the image").data(), label));
  }
  void ClearSamples() {
    const InUse::By this_call(&in_use_);
    trainer_.ClearSamples();
  }
  std::int32_t NumSamples() const { return trainer_.num_samples(); }

  void Select(std::size_t arena_bytes, std::uint32_t backward_macs) {
    const InUse::By this_call(&in_use_);
    CheckCalled(trainer_.Select({arena_bytes, backward_macs}));
  }
  py::list Score() {
    const InUse::By this_call(&in_use_);
    const float* scores = nullptr;
    CheckCalled(trainer_.Score(&scores));
    py::list layers;
    for (std::int32_t t = 0; t < tables_.num_trained; ++t) {
      layers.append(FloatArray(tables_.trained[t].num_channels, scores));
      scores += tables_.trained[t].num_channels;
    }
    return layers;
  }
  // {layer: channels} that are trained now.
  py::dict Trained() const {
    py::dict trained;
    const tt::Tables& tables = trainer_.tables();
    for (std::int32_t t = 0; t < tables.num_trained; ++t) {
      trained[tables.trained[t].name] = Uint16Array(tables.trained[t].num_channels, tables.trained[t].channels);
    }
    return trained;
  }

  void Train(const py::object& progress) {
    const InUse::By this_call(&in_use_);
    progress_ = progress;
    const tt::Status status = trainer_.Train(progress.is_none() ? nullptr : &ReportProgress, this);
    progress_ = py::none();
    CheckCalled(status);
  }
  float Step() {
    const InUse::By this_call(&in_use_);
    float loss = 0.0f;
    CheckCalled(trainer_.Step(&loss));
    return loss;
  }
  float ComputeGradients() {
    const InUse::By this_call(&in_use_);
    float loss = 0.0f;
    CheckCalled(trainer_.ComputeGradients(&loss));
    return loss;
  }
  void UpdatePrototypes() {
    const InUse::By this_call(&in_use_);
    CheckCalled(trainer_.UpdatePrototypes());
  }

  // Scores of each sample by the solution without it.
  FloatArray Solve() {
    const InUse::By this_call(&in_use_);
    ExpectMaps();
    const float* scores = nullptr;
    CheckCalled(closed_form_.Solve(&scores));
    return FloatArray({closed_form_.num_rows(), closed_form_.num_targets()}, scores);
  }
  void ForgetClass(std::int32_t label) {
    const InUse::By this_call(&in_use_);
    ExpectMaps();
    CheckCalled(closed_form_.ForgetClass(label));
  }
  float Familiarity() const { return closed_form_.familiarity(); }
  py::object Threshold() const {
    const float threshold = closed_form_.threshold();
    return threshold > tt::kNoThreshold ? py::object(py::float_(threshold)) : py::none();
  }
  py::array Labels() const { return py::array_t<std::uint8_t>(trainer_.num_samples(), trainer_.buffers().labels); }
  // (int8 [num_classes + 1][elements], int32 scales [num_classes + 1])
  py::tuple ClosedForm(bool original, bool known) const {
    ExpectMaps();
    const tt::Solution solution = known ? tt::Solution::kKnown : original ? tt::Solution::kOriginal : tt::Solution::kAdapted;
    const tt::RidgeWeights weights = closed_form_.weights(solution);
    const py::ssize_t channels = trainer_.settings().num_classes + 1;
    const auto elements = static_cast<std::size_t>(closed_form_.row_elements());
    Int8Array values({channels, static_cast<py::ssize_t>(elements)});
    for (py::ssize_t c = 0; c < channels; ++c) {
      std::memcpy(values.mutable_data(c), weights.values + static_cast<std::size_t>(c) * weights.stride, elements);
    }
    return py::make_tuple(values, py::array_t<std::int32_t>(channels, weights.scales));
  }
  Int8Array Row(std::int32_t sample) const {
    ExpectMaps();
    if (sample < 0 || sample >= trainer_.num_samples()) throw py::index_error("no such stored sample");
    return Copy(closed_form_.Row(sample), {closed_form_.row_elements()});
  }
  py::dict ClosedFormBytes() const {
    ExpectMaps();
    return ClosedBytesDict(ClosedBytes(tables_, *maps_, trainer_.settings(), flash_ != nullptr));
  }
  bool ClosedFormAnswers() const { return maps_ != nullptr && closed_form_.answers; }

  py::tuple Predict(const py::object& image) {
    const InUse::By this_call(&in_use_);
    FloatArray logits(trainer_.settings().num_classes);
    std::int32_t label = 0;
    CheckCalled(trainer_.Predict(Int8From(image, ImageElements(), "the image").data(), logits.mutable_data(), &label));
    return py::make_tuple(label, logits);
  }

  std::size_t DeltaBytes() const { return trainer_.DeltaBytes(); }
  py::bytes SaveDelta(std::uint32_t sequence) const {
    std::vector<std::uint8_t> data(trainer_.DeltaBytes());
    std::size_t written = 0;
    Check(trainer_.SaveDelta(sequence, data.data(), data.size(), &written));
    return py::bytes(reinterpret_cast<const char*>(data.data()), written);
  }
  void LoadDelta(const py::bytes& delta) {
    const InUse::By this_call(&in_use_);
    const std::string data = delta;
    Check(trainer_.LoadDelta(reinterpret_cast<const std::uint8_t*>(data.data()), data.size()));
  }
  void SaveToFlash(const py::object& slots) const {
    const InUse::By this_call(&in_use_);
    PyFlash flash(slots);
    flash.Check(trainer_.SaveDelta(flash.flash()));
  }
  void LoadFromFlash(const py::object& slots) {
    const InUse::By this_call(&in_use_);
    PyFlash flash(slots);
    flash.Check(trainer_.LoadDelta(flash.flash()));
  }
  void UndoSave(const py::object& slots) {
    const InUse::By this_call(&in_use_);
    PyFlash flash(slots);
    flash.Check(trainer_.UndoSave(flash.flash()));
  }
  void FactoryReset(const py::object& slots) {
    const InUse::By this_call(&in_use_);
    PyFlash flash(slots);
    flash.Check(trainer_.FactoryReset(flash.flash()));
  }
  bool IsSaved(const py::object& slots) const { return trainer_.IsSaved(PyFlash(slots).flash()); }
  bool IsAsExported() const { return trainer_.IsAsExported(); }
  void Revert() {
    const InUse::By this_call(&in_use_);
    trainer_.Revert();
  }

  py::dict MemoryParts() const { return PartsDict(trainer_.memory_parts()); }
  std::size_t FlashSamplesBytes() const { return flash_ ? tt::FlashSamplesBytes(tables_, trainer_.settings()) : 0; }
  py::dict Settings() const { return SettingsDict(trainer_.settings()); }
  std::int32_t Iteration() const { return trainer_.iteration(); }
  std::int32_t NumTrained() const { return trainer_.tables().num_trained; }

  Int8Array Kernel(std::int32_t index) const {
    const tt::TrainedState state = State(index);
    return Copy(state.kernel, {state.layout.output_channels * state.layout.weights_per_channel});
  }
  py::object Bias(std::int32_t index) const {
    const tt::TrainedState state = State(index);
    if (state.bias == nullptr) return py::none();
    return py::array_t<std::int32_t>(state.layout.output_channels, state.bias);
  }
  py::object Masters(std::int32_t index) const {
    const tt::TrainedState state = State(index);
    if (state.masters == nullptr) return py::none();
    return KernelAndBias(state, state.masters, state.bias_masters);
  }
  py::tuple WeightGradients(std::int32_t index) const {
    const tt::TrainedState state = State(index);
    return KernelAndBias(state, state.d_kernel, state.d_bias);
  }
  py::object Prototypes() const { return trainer_.has_prototypes() ? Rows(trainer_.buffers().prototypes) : py::none(); }
  py::object OriginalPrototypes() const {
    return trainer_.has_original_prototypes() ? Rows(trainer_.buffers().original_prototypes) : py::none();
  }
  Int8Array StoredSample(std::int32_t sample, std::int32_t view) const {
    if (sample < 0 || sample >= trainer_.num_samples() || view < 0 || view > tables_.num_views) {
      throw py::index_error("no such stored sample or view");
    }
    const tt::Tensor& t = tables_.tensors[0];
    return Copy(trainer_.StoredSample(sample, view), {1, t.height, t.width, t.channels});
  }
  py::array Arena() const { return arena_; }

 private:
  enum : std::uint8_t { kFrozenByte = 0xa5 };  // a run of the frozen part fills the scratch with it

  static py::array_t<std::uint8_t> AllocateArena(std::size_t bytes) {
    py::array_t<std::uint8_t> padded(static_cast<py::ssize_t>(bytes + tt::kArenaAlignment));
    const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(padded.data()) % tt::kArenaAlignment;
    const std::size_t skip = misaligned == 0 ? 0 : tt::kArenaAlignment - misaligned;
    return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(bytes), padded.mutable_data() + skip, padded);
  }

  // Whether the scratch is as the frozen part left it, except its output and the image that it reads.
  bool ScratchIsUntouched() const {
    const std::size_t features = static_cast<std::size_t>(tt::NumStored(tables_));
    const tt::MemoryParts parts = trainer_.memory_parts();
    const auto scratch_bytes = static_cast<std::size_t>(scratch_.nbytes());
    for (std::size_t i = flash_ ? parts.features : features; i < scratch_bytes - parts.image; ++i) {
      if (scratch_.data()[i] != kFrozenByte) return false;
    }
    return true;
  }
  static bool OpenTrainable(void* context) {
    return Guarded(context, [&](PyTrainer* self) {
      if (self->frozen_has_run_ && !self->ScratchIsUntouched()) {
        throw std::logic_error("the trainer wrote into its scratch before it claimed it from the frozen part");
      }
      self->frozen_has_run_ = false;
      return true;
    });
  }

  void ExpectMaps() const {
    if (maps_ == nullptr) throw std::runtime_error("the bundle has no closed-form head: export it with head=\"ridge\"");
  }

  // An exception in a callable is kept until the trainer has returned, then thrown again.
  void CheckCalled(tt::Status status, const std::string& detail = "") {
    if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
    if (flash_) flash_->Check(tt::Status::kOk);
    Check(status, status == tt::Status::kArenaTooSmall ? detail : "");
  }
  template <typename Body>
  static bool Guarded(void* context, Body body) {
    auto* self = static_cast<PyTrainer*>(context);
    try {
      return body(self);
    } catch (...) {
      self->exception_ = std::current_exception();
      return false;
    }
  }

  static bool RunFrozen(void* context, const std::int8_t* image, std::int8_t* features) {
    return Guarded(context, [&](PyTrainer* self) {
      const tt::Tables& t = self->tables_;
      const py::object result = self->run_frozen_(Copy(image, {1, t.image_height, t.image_width, t.image_channels}));
      const std::int32_t elements = tt::NumStored(t);
      const Int8Array array = Int8From(result, elements, "what run_frozen returns");
      if (self->scratch_.size() > 0) {
        std::memset(self->scratch_.mutable_data(), kFrozenByte, static_cast<std::size_t>(self->scratch_.nbytes()));
        self->frozen_has_run_ = true;
      }
      std::memcpy(features, array.data(), static_cast<std::size_t>(elements));
      return true;
    });
  }

  static bool RunTrainable(void* context, const std::int8_t* features, const std::int8_t** outputs) {
    return OpenTrainable(context) && Guarded(context, [&](PyTrainer* self) {
             const tt::Tables& tables = self->tables_;
             const tt::Tensor& input = tables.tensors[0];
             const py::sequence results = self->run_trainable_(Copy(features, {1, input.height, input.width, input.channels}));
             if (py::len(results) != static_cast<std::size_t>(tables.num_outputs)) {
               throw py::value_error("run_trainable must return " + std::to_string(tables.num_outputs) + " arrays, received " +
                                     std::to_string(py::len(results)));
             }
             self->outputs_.clear();
             for (std::int32_t i = 0; i < tables.num_outputs; ++i) {
               const py::object result = results[static_cast<std::size_t>(i)];
               self->outputs_.push_back(Int8From(result, self->OutputElements(i, result), "what run_trainable returns"));
               outputs[i] = self->outputs_.back().data();
             }
             return true;
           });
  }

  // Elements of output i: those of the largest tensor that is kept there; any number if the runtime never reads it.
  std::int64_t OutputElements(std::int32_t i, const py::object& result) const {
    std::int32_t largest = i == tables_.head_output ? tt::NumElements(tables_.tensors[tables_.num_tensors - 1]) : 0;
    for (std::int32_t t = 0; t < tables_.num_tensors; ++t) {
      if (tables_.tensors[t].kept == i) largest = std::max(largest, tt::NumElements(tables_.tensors[t]));
    }
    return largest > 0 ? largest : result.cast<py::array>().size();
  }

  static bool Bind(void* context, std::int32_t tensor, const void* data, std::size_t bytes) {
    return Guarded(context, [&](PyTrainer* self) {
      if (self->bind_.is_none()) return true;
      bool is_bias = false;
      for (std::int32_t t = 0; t < self->tables_.num_trained; ++t) is_bias |= self->tables_.trained[t].bias_tensor == tensor;
      const auto dtype = is_bias ? py::dtype::of<std::int32_t>() : py::dtype::of<std::int8_t>();
      const auto* begin = static_cast<const std::uint8_t*>(self->arena_.data());
      const bool in_arena = data >= begin && data < begin + self->arena_.nbytes();
      const py::object keeper = in_arena ? self->arena_ : self->owner_;
      py::array view(dtype, {static_cast<py::ssize_t>(bytes) / dtype.itemsize()}, {}, data, keeper);
      view.attr("flags").attr("writeable") = false;
      self->bind_(tensor, view);
      return true;
    });
  }

  static bool ReportProgress(void* context, std::int32_t iteration, float loss) {
    return Guarded(context, [&](PyTrainer* self) {
      const py::object go_on = self->progress_(iteration, loss);
      return go_on.is_none() || go_on.cast<bool>();
    });
  }

  std::int64_t ImageElements() const {
    return static_cast<std::int64_t>(tables_.image_height) * tables_.image_width * tables_.image_channels;
  }
  tt::TrainedState State(std::int32_t index) const {
    const tt::Tables& tables = trainer_.tables();
    if (index < 0 || index >= tables.num_trained) {
      throw py::index_error("there are " + std::to_string(tables.num_trained) + " trained layers, received index " +
                            std::to_string(index));
    }
    return tt::TrainedAt(tables, trainer_.buffers(), index);
  }
  py::object Rows(const float* prototypes) const {
    if (prototypes == nullptr) return py::none();
    return FloatArray({trainer_.settings().num_classes, trainer_.buffers().dimension}, prototypes);
  }
  static py::tuple KernelAndBias(const tt::TrainedState& state, const float* kernel, const float* bias) {
    const std::int32_t num_channels = state.trained->num_channels;
    FloatArray rows({num_channels, state.layout.weights_per_channel}, kernel);
    py::object biases = py::none();
    if (bias != nullptr) biases = FloatArray(num_channels, bias);
    return py::make_tuple(rows, biases);
  }

  const tt::Tables& tables_;
  py::object run_trainable_, run_frozen_, bind_, owner_;
  py::object progress_ = py::none();
  py::array arena_;
  py::array_t<std::uint8_t> scratch_;
  bool frozen_has_run_ = false;
  std::unique_ptr<PyFlash> flash_;
  std::vector<Int8Array> outputs_;
  std::exception_ptr exception_;
  mutable InUse in_use_;
  tt::Trainer trainer_;
  const tt::Maps* maps_ = nullptr;
  py::array_t<std::uint8_t> closed_form_memory_;
  tt::ClosedForm closed_form_{};
};

}  // namespace

void AddTrainer(py::module_* module) {
  py::class_<PyTrainer>(*module, "Trainer",
                        "Trains the selected channels of one exported model. Calls from several threads wait for each other.")
      .def(py::init<std::uintptr_t, py::object, py::object, py::object, py::object, py::object, py::object, bool, py::object,
                    std::size_t, std::size_t, std::uintptr_t>(),
           py::arg("tables"), py::arg("run_trainable"), py::arg("run_frozen") = py::none(), py::arg("bind") = py::none(),
           py::kw_only(), py::arg("settings") = py::none(), py::arg("arena") = py::none(), py::arg("owner") = py::none(),
           py::arg("share") = true, py::arg("flash") = py::none(), py::arg("arena_bytes") = 0, py::arg("scratch_bytes") = 0,
           py::arg("maps") = 0,
           "tables: address of a Tables. run_trainable(int8 [1, h, w, c]) -> list of int8 arrays, one per output. "
           "run_frozen(int8 image) -> int8 features; None: there is no frozen part. bind(tensor_index, array): int8 kernel or "
           "int32 bias, flat, a read-only view of the arena, or of the tables while the original weights are in use; "
           "called back and forth. settings: dict of settings that replace the tables' own. arena: uint8 array aligned "
           "to 16; None: allocated. owner: kept alive with the trainer. "
           "share: scratch lies in memory that run_frozen overwrites; False: in the arena. flash: keeps the samples; an object "
           "with data (uint8 array), page_bytes, erase(offset), write(offset, bytes). arena_bytes, scratch_bytes: least "
           "sizes to allocate, for tables with candidates. maps: address of a Maps, for a closed-form head; 0: none.")
      .def("add_sample", &PyTrainer::AddSample, py::arg("image"), py::arg("label"))
      .def("clear_samples", &PyTrainer::ClearSamples)
      .def_property_readonly("num_samples", &PyTrainer::NumSamples)
      .def("score", &PyTrainer::Score, "Fisher information of the candidates' channels, float32, one array per candidate.")
      .def("select", &PyTrainer::Select, py::arg("arena_bytes") = 0, py::arg("backward_macs") = 0,
           "Chooses the channels to train within a budget; 0: no limit of its own.")
      .def("trained", &PyTrainer::Trained, "{layer name: uint16 channels} that are trained now.")
      .def("train", &PyTrainer::Train, py::arg("progress") = py::none(),
           "progress(iteration, loss) -> None or whether to go on.")
      .def("step", &PyTrainer::Step, "One iteration; returns the loss before the update.")
      .def("compute_gradients", &PyTrainer::ComputeGradients, "Fills the weight gradients; returns the loss.")
      .def("update_prototypes", &PyTrainer::UpdatePrototypes)
      .def("solve", &PyTrainer::Solve,
           "Solves the closed-form head; returns float32 [samples, num_classes], each sample's scores by the solution without "
           "it.")
      .def("closed_form", &PyTrainer::ClosedForm, py::arg("original") = false, py::arg("known") = false,
           "(int8 [num_classes + 1, elements], int32 scales in units of 2^-30): a row for each class, then the centre; known: "
           "the "
           "classes' directions, then the row of the samples of no class; copies.")
      .def("forget_class", &PyTrainer::ForgetClass, py::arg("label"),
           "Forgets stored samples of a class, for the next solve().")
      .def_property_readonly("familiarity", &PyTrainer::Familiarity, "Of the last prediction.")
      .def_property_readonly("threshold", &PyTrainer::Threshold, "Of the familiarity; None: every sample is of a class.")
      .def_property_readonly("labels", &PyTrainer::Labels, "uint8, of each place of a sample; a copy.")
      .def("row", &PyTrainer::Row, py::arg("sample"), "int8 row of a stored sample, after solve().")
      .def("closed_form_bytes", &PyTrainer::ClosedFormBytes)
      .def_property_readonly("closed_form_answers", &PyTrainer::ClosedFormAnswers)
      .def("predict", &PyTrainer::Predict, py::arg("image"), "Returns (label, logits).")
      .def("delta_bytes", &PyTrainer::DeltaBytes)
      .def("save_delta", &PyTrainer::SaveDelta, py::arg("sequence") = 0)
      .def("load_delta", &PyTrainer::LoadDelta, py::arg("delta"))
      .def("save_to_flash", &PyTrainer::SaveToFlash, py::arg("slots"), "Into the older of two slots; slots: as `flash`.")
      .def("load_from_flash", &PyTrainer::LoadFromFlash, py::arg("slots"))
      .def("undo_save", &PyTrainer::UndoSave, py::arg("slots"), "Back to the older of two slots; the newer one is erased.")
      .def("factory_reset", &PyTrainer::FactoryReset, py::arg("slots"), "As exported, without samples; both slots are erased.")
      .def("is_saved", &PyTrainer::IsSaved, py::arg("slots"), "Whether a power cycle would lead to the same.")
      .def_property_readonly("is_as_exported", &PyTrainer::IsAsExported)
      .def("revert", &PyTrainer::Revert)
      .def("flash_samples_bytes", &PyTrainer::FlashSamplesBytes, "Flash that stored samples take; 0: they are in the arena.")
      .def("memory_parts", &PyTrainer::MemoryParts)
      .def_property_readonly("settings", &PyTrainer::Settings)
      .def_property_readonly("iteration", &PyTrainer::Iteration)
      .def_property_readonly("num_trained", &PyTrainer::NumTrained)
      .def("kernel", &PyTrainer::Kernel, py::arg("index"),
           "int8 kernel of a trained layer in RAM, flat: of all channels or, if it is split, of the trained ones; a copy.")
      .def("bias", &PyTrainer::Bias, py::arg("index"), "int32 bias of the same channels, or None; a copy.")
      .def("masters", &PyTrainer::Masters, py::arg("index"),
           "(float32 [channels, weights per channel], float32 [channels] or None), copies; None: there are no masters.")
      .def("weight_gradients", &PyTrainer::WeightGradients, py::arg("index"),
           "As masters: gradients of the mean loss; with immediate updates of the last sample's.")
      .def("prototypes", &PyTrainer::Prototypes, "float32 [num_classes, dimension] or None; a copy.")
      .def("original_prototypes", &PyTrainer::OriginalPrototypes, "As prototypes, with the weights in flash.")
      .def("stored_sample", &PyTrainer::StoredSample, py::arg("sample"), py::arg("view") = 0)
      .def_property_readonly("arena", &PyTrainer::Arena);
}
