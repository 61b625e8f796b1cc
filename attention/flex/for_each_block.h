// The blocks of tokens of a tensor, each head by itself, as the copies in this folder go over them.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

namespace tessera::flex {

// Calls copy(b, h, block, first token, number of tokens) for all blocks, in parallel.
template <typename Copy>
void for_each_block(const at::Tensor& x_BTHD, int64_t block_size, Copy copy) {
  const int64_t num_tokens = x_BTHD.size(1);
  const int64_t heads = x_BTHD.size(2);
  const int64_t num_blocks = (num_tokens + block_size - 1) / block_size;
  at::parallel_for(0, x_BTHD.size(0) * heads * num_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t token = i % num_blocks * block_size;
      const int64_t head = i / num_blocks;
      copy(head / heads, head % heads, i % num_blocks, token,
           std::min(block_size, num_tokens - token));
    }
  });
}

}  // namespace tessera::flex
