// The process's place in a launch, and the user's wishes. The only file that reads environment
// variables.
#pragma once

#include <cstdint>

namespace tessera {

struct Environment {
  int64_t rank = 0;
  int64_t world_size = 1;
  int64_t local_rank = 0;
};

// From torchrun's RANK, WORLD_SIZE and LOCAL_RANK; a single process without them. Throws
// std::invalid_argument naming the variable and its value when one is not a number or out of range.
Environment read_environment();

// Whether the user wants no colours in terminals: NO_COLOR is set and not empty (no-color.org).
bool wants_no_color();

}  // namespace tessera
