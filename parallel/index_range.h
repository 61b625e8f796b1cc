// IndexRange: a run of indices, of rows or of whatever is divided over ranks. A plain value.
#pragma once

#include <cstdint>

namespace tessera {

// The indices from begin to end - 1. Nothing is checked; begin <= end is expected.
struct IndexRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const IndexRange&) const = default;
};

}  // namespace tessera
