// A run of indices, of rows or of whatever is divided over ranks.
#pragma once

#include <cstdint>

namespace tessera {

struct IndexRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const IndexRange&) const = default;
};

}  // namespace tessera
