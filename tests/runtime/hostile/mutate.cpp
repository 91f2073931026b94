// Gives a target of libFuzzer mutations without libFuzzer, which is not there for 32 bits: `mutate COUNT MAX_BYTES SEED_FILE
// ...`.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

std::mt19937 generator(1);

std::size_t Below(std::size_t count) { return generator() % count; }

// A bit flipped, a byte replaced, removed or inserted, a stretch of another seed, or bytes of chance alone.
void Mutate(Bytes* data, const Bytes& other, std::size_t max_bytes) {
  const std::size_t kind = Below(6);
  if (data->empty() || kind == 0) {
    data->resize(1 + Below(max_bytes));
    for (auto& byte : *data) byte = static_cast<std::uint8_t>(generator());
    return;
  }
  std::uint8_t& byte = (*data)[Below(data->size())];
  const auto at = data->begin() + (&byte - data->data());
  if (kind == 1) byte = static_cast<std::uint8_t>(byte ^ (1u << Below(8)));
  if (kind == 2) byte = static_cast<std::uint8_t>(generator());
  if (kind == 3) data->erase(at);
  if (kind == 4) data->insert(at, static_cast<std::uint8_t>(generator()));
  if (kind == 5 && !other.empty()) data->insert(at, other.begin(), other.begin() + 1 + static_cast<long>(Below(other.size())));
  if (data->size() > max_bytes) data->resize(max_bytes);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const long count = std::atol(argv[1]);
  const auto max_bytes = static_cast<std::size_t>(std::atol(argv[2]));
  std::vector<Bytes> seeds;
  for (int i = 3; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  for (long i = 0; i < count; ++i) {
    Bytes data = seeds[Below(seeds.size())];
    for (std::size_t rest = Below(5); rest > 0; --rest) Mutate(&data, seeds[Below(seeds.size())], max_bytes);
    LLVMFuzzerTestOneInput(data.data(), data.size());
  }
  std::printf("%ld\n", count);
  return 0;
}
