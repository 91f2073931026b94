// A stand-in of ESP-IDF's UART driver: UART 0 is standard input and output.
#ifndef DRIVER_UART_H_
#define DRIVER_UART_H_

#include "../../terminal.h"

typedef int uart_port_t;
constexpr uart_port_t UART_NUM_0 = 0;
enum {
  UART_DATA_8_BITS = 3,
  UART_PARITY_DISABLE = 0,
  UART_STOP_BITS_1 = 1,
  UART_HW_FLOWCTRL_DISABLE = 0,
  UART_SCLK_DEFAULT = 4
};
struct uart_config_t {
  int baud_rate, data_bits, parity, stop_bits, flow_ctrl, source_clk;
};

inline int uart_driver_install(uart_port_t, int, int, int, void*, int) { return 0; }
inline int uart_param_config(uart_port_t, const uart_config_t*) { return 0; }
inline int uart_read_bytes(uart_port_t, void* data, std::uint32_t count, std::uint32_t ticks) {
  return static_cast<int>(ReadTerminal(data, count, static_cast<int>(ticks)));
}
inline int uart_write_bytes(uart_port_t, const void* data, std::size_t count) {
  WriteTerminal(data, count);
  return static_cast<int>(count);
}

#endif  // DRIVER_UART_H_
