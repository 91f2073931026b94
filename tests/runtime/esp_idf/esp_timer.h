// A stand-in of ESP-IDF's timer: microseconds.
#ifndef ESP_TIMER_H_
#define ESP_TIMER_H_

#include <cstdint>
#include <ctime>

inline std::int64_t esp_timer_get_time() { return static_cast<std::int64_t>(std::clock()); }

#endif  // ESP_TIMER_H_
