#include "data/loader/shuffle.h"

#include <numeric>
#include <utility>

namespace tessera {
namespace {

constexpr uint64_t kGoldenGamma = 0x9E3779B97F4A7C15;

// The output function of splitmix64.
uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// A number in [0, bound). Some values are likelier than others by at most bound / 2^64, which is
// negligible for numbers of documents.
uint64_t below(uint64_t bound, uint64_t random) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(random) * bound) >> 64);
}

}  // namespace

std::vector<int64_t> shuffled_order(int64_t num_documents, uint64_t seed, int64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(num_documents));
  std::iota(order.begin(), order.end(), 0);
  // The seed is mixed before the epoch comes in, so that (seed, epoch + 1) and (seed + 1, epoch)
  // differ.
  uint64_t counter = mix(mix(seed + kGoldenGamma) + static_cast<uint64_t>(epoch));
  for (size_t i = order.size(); i > 1; --i) {
    counter += kGoldenGamma;
    std::swap(order[i - 1], order[below(i, mix(counter))]);
  }
  return order;
}

}  // namespace tessera
