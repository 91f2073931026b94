// mbed's flash driver, declared only.
#ifndef FLASHIAP_H_
#define FLASHIAP_H_

#include <stdint.h>

namespace mbed {
class FlashIAP {
 public:
  int init();
  int erase(uint32_t address, uint32_t size);
  int program(const void* buffer, uint32_t address, uint32_t size);
};
}  // namespace mbed

#endif  // FLASHIAP_H_
