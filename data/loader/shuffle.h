// The order in which an epoch visits its documents.
//
// A Fisher-Yates shuffle whose draws are splitmix64 values of a counter (Steele, Lea, Flood: Fast
// Splittable Pseudorandom Number Generators, OOPSLA 2014), brought into range by a 64 x 64 -> 128
// bit multiplication (Lemire 2019). Integer arithmetic alone gives the same order on every machine
// and with every standard library, which std::shuffle and the standard distributions do not
// promise.
#pragma once

#include <cstdint>
#include <vector>

namespace tessera {

// A permutation of 0 .. num_documents - 1, a function of the three arguments alone. Takes 8 bytes
// per document.
std::vector<int64_t> shuffled_order(int64_t num_documents, uint64_t seed, int64_t epoch);

}  // namespace tessera
