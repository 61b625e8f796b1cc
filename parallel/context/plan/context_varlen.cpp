#include "parallel/context/plan/context_varlen.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>

namespace tessera {

namespace {

// Tokens [begin, end) of one document, which starts at `document`. All three numbers count over the
// whole batch.
struct Run {
  int64_t document;
  int64_t begin;
  int64_t end;
};

// The runs of a rank: its blocks, joined where they touch and cut where documents begin.
std::vector<Run> runs_of(const std::vector<int32_t>& cu_seqlens, int64_t batch,
                         const ShardPlan& plan, int64_t rank) {
  std::vector<Run> runs;
  size_t document = 0;
  for (int64_t b = 0; b < batch; ++b) {
    for (const int64_t block : plan.blocks(rank)) {
      int64_t begin = b * plan.seq_len() + block * plan.block_size();
      const int64_t end = begin + plan.block_size();
      while (begin < end) {
        while (cu_seqlens[document + 1] <= begin) ++document;
        const int64_t start = cu_seqlens[document];
        const int64_t stop = std::min<int64_t>(end, cu_seqlens[document + 1]);
        if (!runs.empty() && runs.back().end == begin && runs.back().document == start) {
          runs.back().end = stop;
        } else {
          runs.push_back({start, begin, stop});
        }
        begin = stop;
      }
    }
  }
  return runs;
}

void append_length(int64_t length, std::vector<int32_t>& cu_seqlens, int32_t& max_seqlen) {
  cu_seqlens.push_back(cu_seqlens.back() + static_cast<int32_t>(length));
  max_seqlen = std::max(max_seqlen, static_cast<int32_t>(length));
}

void check_documents(const Varlen& varlen, int64_t batch, const ShardPlan& plan) {
  TORCH_CHECK(varlen.window.right == 0, "shard_varlen: window: got ",
              varlen.window.right ? std::to_string(*varlen.window.right) : "no limit",
              " to the right, expected 0 (causal)");
  const std::vector<int32_t>& ends = varlen.cu_seqlens;
  TORCH_CHECK(batch >= 1 && !ends.empty() && ends.front() == 0 &&
                  ends.back() == batch * plan.seq_len() && std::is_sorted(ends.begin(), ends.end()),
              "shard_varlen: cu_seqlens: got ", "[", c10::Join(", ", ends), "]",
              ", expected ascending lengths from 0 to ", batch, " rows x ", plan.seq_len(),
              " tokens");
  for (int64_t b = 1; b < batch; ++b) {
    TORCH_CHECK(std::binary_search(ends.begin(), ends.end(), b * plan.seq_len()),
                "shard_varlen: cu_seqlens: got a document across the end of row ", b - 1,
                ", expected rows to end at multiples of ", plan.seq_len());
  }
}

}  // namespace

VarlenShard shard_varlen(const Varlen& varlen, int64_t batch, const ShardPlan& plan, int64_t rank) {
  check_documents(varlen, batch, plan);
  VarlenShard shard{.cu_seqlens_q = {0}, .cu_seqlens_k = {0}};
  for (const Run& run : runs_of(varlen.cu_seqlens, batch, plan, rank)) {
    const int64_t reach = varlen.window.left ? *varlen.window.left : run.begin;
    const int64_t first_key = std::max(run.document, run.begin - reach);
    append_length(run.end - run.begin, shard.cu_seqlens_q, shard.max_seqlen_q);
    append_length(run.end - first_key, shard.cu_seqlens_k, shard.max_seqlen_k);
    for (int64_t key = first_key; key < run.end; ++key) {
      const int64_t row = key / plan.seq_len();
      const int64_t token = key % plan.seq_len();
      const int64_t block = token / plan.block_size();
      shard.key_places.push_back(row * plan.seq_len() + plan.owner(block) * plan.tokens_per_rank() +
                                 plan.slot(block) * plan.block_size() + token % plan.block_size());
    }
  }
  return shard;
}

}  // namespace tessera
