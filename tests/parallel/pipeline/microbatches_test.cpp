#include "parallel/pipeline/microbatches.h"

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "attention/block_mask/attention_masks.h"
#include "attention/block_mask/block_mask.h"
#include "attention/masks/mask_mod.h"
#include "tests/support/errors.h"

namespace tessera::pipeline {
namespace {

using Sizes = std::vector<int64_t>;

BlockMask packed_mask(const at::Tensor& ids_BT) {
  return create_block_mask(causal() & document(ids_BT), {.batch = ids_BT.size(0),
                                                         .q_len = ids_BT.size(1),
                                                         .kv_len = ids_BT.size(1),
                                                         .block = {4, 4}});
}

TEST(Microbatches, Case18Sizes) {
  EXPECT_EQ(microbatch_sizes(5, 2), (Sizes{3, 2}));
  EXPECT_EQ(microbatch_sizes(4, 3), (Sizes{2, 1, 1}));
  EXPECT_EQ(microbatch_sizes(4, 4), (Sizes{1, 1, 1, 1}));
  EXPECT_ERROR(microbatch_sizes(2, 3), "3 microbatches", "2 rows");
  EXPECT_ERROR(microbatch_sizes(2, 0), "0 microbatches");
}

// Masks of a whole batch, split, are those that each microbatch builds for itself.
TEST(Microbatches, Case18SplitMasksAreThoseOfTheMicrobatches) {
  const at::Tensor ids_BT = at::tensor(Sizes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1,
                                             0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 0, 0, 0, 0, 1, 1})
                                .view({4, 8});
  const AttentionMasks masks{{"global", packed_mask(ids_BT)}};
  for (const int64_t num_microbatches : {2, 3, 4}) {
    const Sizes sizes = microbatch_sizes(4, num_microbatches);
    const std::vector<AttentionMasks> parts = masks.split(sizes);
    int64_t row = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      EXPECT_EQ(parts[i].at("global"), packed_mask(ids_BT.narrow(0, row, sizes[i])));
      row += sizes[i];
    }
  }
  // Whoever took microbatch 0's mask for all would attend to 36 pairs instead of 20.
  const std::vector<AttentionMasks> rows = masks.split({1, 1, 1, 1});
  EXPECT_EQ(rows[0].at("global").num_pairs(), 36);
  EXPECT_EQ(rows[1].at("global").num_pairs(), 20);
}

TEST(Microbatches, TheirSizeDividesTheBatch) {
  EXPECT_EQ(num_microbatches(8, 2), 4);
  EXPECT_ERROR(num_microbatches(8, 3), "pipeline_parallel_microbatch_size: got 3",
               "local_batch_size (8)");
  EXPECT_ERROR(num_microbatches(8, 0), "got 0");
}

}  // namespace
}  // namespace tessera::pipeline
