// What TensorFlow Lite Micro needs for a bundle: the smallest arenas of the frozen part, 0 without one, and of the trainable
// part, as two uint32 on standard output.
#include "board.h"
#include "bundle.h"

alignas(16) std::uint8_t model_arena[MODEL_ARENA_BYTES];

int main() {
#ifdef FROZEN
  const std::size_t frozen = SmallestArena(exported::g_frozen_model_data);
#else
  const std::size_t frozen = 0;
#endif
  const std::size_t trainable = SmallestArena(exported::g_trainable_model_data);
  const std::uint32_t answer[] = {static_cast<std::uint32_t>(frozen), static_cast<std::uint32_t>(trainable)};
  return board::Write(answer, sizeof(answer)) ? 0 : 1;
}
