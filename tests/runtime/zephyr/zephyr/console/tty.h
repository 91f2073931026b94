// A stand-in of Zephyr's terminals: standard input and output.
#ifndef ZEPHYR_TTY_H_
#define ZEPHYR_TTY_H_

#include "../../../terminal.h"

struct device {};
struct tty_serial {
  int timeout;
};

inline int tty_init(struct tty_serial*, const struct device*) { return 0; }
inline int tty_set_rx_buf(struct tty_serial*, void*, std::size_t) { return 0; }
inline int tty_set_tx_buf(struct tty_serial*, void*, std::size_t) { return 0; }
inline void tty_set_rx_timeout(struct tty_serial* tty, std::int32_t milliseconds) { tty->timeout = milliseconds; }
inline ssize_t tty_read(struct tty_serial* tty, void* data, std::size_t size) {
  const std::size_t got = ReadTerminal(data, size < 5 ? size : 5, tty->timeout);  // at most as many as have come
  return got == 0 ? -1 : static_cast<ssize_t>(got);
}
inline ssize_t tty_write(struct tty_serial*, const void* data, std::size_t size) {
  WriteTerminal(data, size);
  return static_cast<ssize_t>(size);
}

#endif  // ZEPHYR_TTY_H_
