// ShardLayout: how the parameters of a unit are cut over the ranks that share them. Plain values;
// all sizes are in elements.
//
// Each parameter is cut along dim 0 into equal runs of rows, one per rank, the last ones short or
// empty; a rank's part is always a rectangle of the parameter, which is what initialisation and
// checkpoints need. Two buffers hold a unit:
//
//   shard  (one rank):  | rows of p0 | rows of p1 | ...      each padded to rows_per_rank rows
//   full   (gathered):  | p0: rank 0's rows, rank 1's, ... | p1: ... |
//
// so gathering one parameter is one all-gather into its final place, without a copy. Parts start at
// multiples of 32 elements (64 bytes or more in any type of at least 2 bytes). With one rank both
// buffers have the same layout: the shard is the full buffer.
//
//   ShardLayout layout = shard_layout({{5, 4}, {7}}, 2);   // rows per rank 3 and 4
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/index_range.h"

namespace tessera {

struct ParameterShard {
  int64_t num_rows = 0;       // dim 0; 1 for a scalar
  int64_t row_numel = 0;      // elements of a row
  int64_t rows_per_rank = 0;  // rounded up
  int64_t shard_offset = 0;   // of its first element in a rank's shard
  int64_t full_offset = 0;    // of its first element in the full buffer

  int64_t shard_numel() const { return rows_per_rank * row_numel; }  // padding included
  IndexRange rows_of(int64_t rank) const;  // without padding; empty beyond the last row
};

struct ShardLayout {
  int64_t num_ranks = 1;
  std::vector<ParameterShard> parameters = {};
  int64_t shard_numel = 0;  // of the whole buffers, padding included
  int64_t full_numel = 0;
};

// The layout of a unit whose parameters have these shapes, in order. Throws c10::Error when
// num_ranks < 1.
ShardLayout shard_layout(const std::vector<std::vector<int64_t>>& shapes, int64_t num_ranks);

}  // namespace tessera
