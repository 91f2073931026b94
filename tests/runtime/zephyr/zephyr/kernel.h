// A stand-in of Zephyr's kernel.
#include <cstdint>
#include <ctime>
inline std::uint32_t k_uptime_get_32() { return static_cast<std::uint32_t>(std::clock() / 1000); }
inline void k_msleep(std::int32_t) {}
