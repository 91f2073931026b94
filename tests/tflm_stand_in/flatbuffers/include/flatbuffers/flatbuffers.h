// The few parts of FlatBuffers that read a model: tables by vtable, vectors by length.
#ifndef FLATBUFFERS_FLATBUFFERS_H_
#define FLATBUFFERS_FLATBUFFERS_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace flatbuffers {

template <class T>
T ReadScalar(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}
inline const std::uint8_t* Follow(const std::uint8_t* at) { return at + ReadScalar<std::uint32_t>(at); }

// Elements are scalars, or offsets of tables where T is a table's type.
template <class T>
class Vector {
 public:
  std::uint32_t size() const { return ReadScalar<std::uint32_t>(bytes()); }
  template <class Scalar = T, std::enable_if_t<std::is_arithmetic<Scalar>::value, int> = 0>
  Scalar Get(std::uint32_t i) const {
    return ReadScalar<Scalar>(data() + i * sizeof(Scalar));
  }
  template <class Table = T, std::enable_if_t<std::is_class<Table>::value, int> = 0>
  const Table* Get(std::uint32_t i) const {
    return reinterpret_cast<const Table*>(Follow(data() + i * 4));
  }
  const std::uint8_t* data() const { return bytes() + 4; }

 private:
  const std::uint8_t* bytes() const { return reinterpret_cast<const std::uint8_t*>(this); }
};

class Table {
 protected:
  // Field `id` of the schema; `absent` where the file leaves it out.
  template <class T>
  T Scalar(int id, T absent) const {
    const std::uint8_t* at = Find(id);
    return at == nullptr ? absent : ReadScalar<T>(at);
  }
  template <class T>
  const T* Pointer(int id) const {
    const std::uint8_t* at = Find(id);
    return at == nullptr ? nullptr : reinterpret_cast<const T*>(Follow(at));
  }

 private:
  const std::uint8_t* Find(int id) const {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(this);
    const std::uint8_t* vtable = bytes - ReadScalar<std::int32_t>(bytes);
    const int entry = 4 + 2 * id;
    const auto offset = entry < ReadScalar<std::uint16_t>(vtable) ? ReadScalar<std::uint16_t>(vtable + entry) : 0;
    return offset == 0 ? nullptr : bytes + offset;
  }
};

}  // namespace flatbuffers

#endif  // FLATBUFFERS_FLATBUFFERS_H_
