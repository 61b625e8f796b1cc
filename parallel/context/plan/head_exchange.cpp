#include "parallel/context/plan/head_exchange.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace tessera {

HeadExchange::HeadExchange(int64_t query_heads, int64_t kv_heads, int64_t num_ranks)
    : query_heads_(query_heads), kv_heads_(kv_heads), num_ranks_(num_ranks) {
  TORCH_CHECK(query_heads >= 1 && kv_heads >= 1 && num_ranks >= 1 && query_heads % kv_heads == 0,
              "all-to-all over heads: got ", query_heads, " query heads, ", kv_heads,
              " key heads, ", num_ranks, " ranks, expected query heads to be a multiple of key ",
              "heads");
  TORCH_CHECK(query_heads % num_ranks == 0, "all-to-all over heads: query heads: got ", query_heads,
              ", expected a multiple of ", num_ranks, " ranks");
  TORCH_CHECK(kv_heads % num_ranks == 0 || num_ranks % kv_heads == 0,
              "all-to-all over heads: key heads: got ", kv_heads,
              ", expected a multiple or a divisor of ", num_ranks, " ranks");
}

int64_t HeadExchange::kv_heads_per_rank() const {
  return std::max<int64_t>(kv_heads_ / num_ranks_, 1);
}

TokenRange HeadExchange::query(int64_t rank) const {
  return {rank * query_heads_per_rank(), (rank + 1) * query_heads_per_rank()};
}

TokenRange HeadExchange::kv(int64_t rank) const {
  const int64_t begin = rank * kv_heads_ / num_ranks_;
  return {begin, begin + kv_heads_per_rank()};
}

int64_t HeadExchange::received_bytes(const ShardPlan& plan, const KvSizes& sizes) const {
  const int64_t foreign_tokens = sizes.batch * (plan.seq_len() - plan.tokens_per_rank());
  const int64_t queries = query_heads_per_rank() * (sizes.key_dim + sizes.value_dim);
  const int64_t keys = kv_heads_per_rank() * (sizes.key_dim + sizes.value_dim);
  return foreign_tokens * (queries + keys) * sizes.element_size;
}

}  // namespace tessera
