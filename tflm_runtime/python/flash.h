// Flash that is a Python object.
#ifndef TINYTRAIN_PYTHON_FLASH_H_
#define TINYTRAIN_PYTHON_FLASH_H_

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

#include "tinytrain_flash.h"
#include "binding.h"

// A Flash over a Python object with `data` (uint8 array), `page_bytes`, `erase(offset)` and `write(offset, bytes)`.
class PyFlash {
 public:
  explicit PyFlash(py::object flash) : flash_(std::move(flash)), data_(flash_.attr("data").cast<py::array>()) {
    ExpectBytes(data_, "flash.data");
  }
  tt::Flash flash() {
    return {this,
            static_cast<const std::uint8_t*>(data_.data()),
            static_cast<std::size_t>(data_.nbytes()),
            flash_.attr("page_bytes").cast<std::size_t>(),
            &Erase,
            &Write};
  }
  // An exception in erase or write is kept until the runtime has returned, then thrown again.
  void Check(tt::Status status) {
    if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
    ::Check(status);
  }
  static void ExpectBytes(const py::array& array, const char* what) {
    if (py::array_t<std::uint8_t>::check_(array) && array.ndim() == 1 && (array.flags() & py::array::c_style)) return;
    throw py::value_error(std::string(what) + " must be a contiguous one-dimensional uint8 array");
  }

 private:
  template <typename Body>
  static bool Guarded(void* context, Body body) {
    auto* self = static_cast<PyFlash*>(context);
    try {
      body(self);
      return true;
    } catch (...) {
      self->exception_ = std::current_exception();
      return false;
    }
  }
  static bool Erase(void* context, std::size_t offset) {
    return Guarded(context, [&](PyFlash* self) { self->flash_.attr("erase")(offset); });
  }
  static bool Write(void* context, std::size_t offset, const std::uint8_t* block) {
    const py::bytes bytes(reinterpret_cast<const char*>(block), tt::kFlashBlockBytes);
    return Guarded(context, [&](PyFlash* self) { self->flash_.attr("write")(offset, bytes); });
  }

  py::object flash_;
  py::array data_;
  std::exception_ptr exception_;
};

#endif  // TINYTRAIN_PYTHON_FLASH_H_
