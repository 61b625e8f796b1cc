// Tiles and plans of one rank. That steps are those of one rank:
// tests/parity/context_parity_test.cpp.
#include "parallel/context/context_parallel.h"

#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "tests/parallel/context/plan/packed_documents.h"
#include "tests/support/errors.h"
#include "tests/support/run_ranks.h"

namespace tessera {
namespace {

using testing::ids_of;

Batch batch_of(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<at::Tensor> ids;
  for (const std::vector<int64_t>& lengths : rows) ids.push_back(ids_of(lengths));
  const at::Tensor ids_BT = at::stack(ids), any_BT = at::zeros(ids_BT.sizes(), at::kLong);
  return {any_BT, any_BT, any_BT, ids_BT};
}

MaskedBatch masked(const ContextParallel& context, const Batch& batch) {
  const CreateMaskFn create = context.tiles_to_share(create_block_mask, batch);
  const MaskShape shape{
      .batch = batch.batch_size(), .q_len = batch.seq_len(), .kv_len = batch.seq_len()};
  const MaskMod rule = causal() & document(batch.document_ids_BT);
  return {batch, {{"global", create(rule, shape)}}};
}

ContextForecast forecast(const World& world, LoadBalancer balancer, const Batch& batch) {
  const ContextParallel context(world.all(), balancer, ContextMethod::kNeededKv);
  return context.forecast(masked(context, batch));
}

TEST(ContextParallelTest, DocumentsDecideTheirBalancersTiles) {
  testing::run_ranks(2, [](const World& world) {
    const auto by_document = LoadBalancer::kDocumentHeadTail;
    const Batch batch = batch_of({{768, 256}, {768, 256}});
    const ContextForecast found = forecast(world, by_document, batch);
    EXPECT_EQ(found.tile, 64);  // 256 / (2 x 2 ranks)
    EXPECT_EQ(found.length_multiple, 4 * 128);
    EXPECT_EQ(found.imbalance, 1.0);
    EXPECT_EQ(forecast(world, LoadBalancer::kHeadTail, batch).tile, 128);
    EXPECT_GT(forecast(world, LoadBalancer::kHeadTail, batch).imbalance, 1.1);
    EXPECT_EQ(forecast(world, by_document, batch_of({{1024}})).tile, 128);
    EXPECT_EQ(forecast(world, by_document, batch_of({{1020, 4}})).tile, 1);

    const ContextParallel context(world.all(), by_document, ContextMethod::kNeededKv);
    const MaskedBatch mine = context.share(masked(context, batch));
    const ShardPlan& plan = context_shard(mine.masks.at("global")).plan();
    EXPECT_EQ(plan, ShardPlan(1024, 64, document_head_tail_lists({12, 4}, 2)));
    EXPECT_TRUE(mine.batch.document_ids_BT.equal(
        shard_tokens(batch.document_ids_BT, plan, world.rank(), /*dim=*/1)));
  });
}

TEST(ContextParallelTest, RefusesRowsThatCannotBeShared) {
  testing::run_ranks(2, [](const World& world) {
    const auto by_document = LoadBalancer::kDocumentHeadTail;
    EXPECT_ERROR(forecast(world, by_document, batch_of({{8, 6, 10}})), "document_head_tail",
                 "document 1 of 3: got 6 tokens", "a multiple of 4 (2 x 2 ranks)");
    EXPECT_ERROR(forecast(world, by_document, batch_of({{8, 16}, {8, 16}, {8, 8, 8}})),
                 "row 2 of a microbatch", "document 1: got 8 tokens, expected 16 as in row 0");
    EXPECT_ERROR(forecast(world, LoadBalancer::kHeadTail, batch_of({{10}})), "a row of 10 tokens",
                 "multiple of 4");
  });
}

// Tiles of a sequence of a model's own are not the rows'.
TEST(ContextParallelTest, OwnSequencesKeepTheirTiles) {
  testing::run_ranks(2, [](const World& world) {
    const ContextParallel context(world.all(), LoadBalancer::kHeadTail, ContextMethod::kRing);
    const Batch batch = batch_of({{24}});
    const CreateMaskFn create = context.tiles_to_share(create_block_mask, batch);
    EXPECT_EQ(create(causal(), {.q_len = 24, .kv_len = 24}).shape().block.q, 2);
    const MaskShape own{.q_len = 7, .kv_len = 7, .sequence = MaskSequence::kOwn};
    const BlockMask patches = create(full(), own);
    EXPECT_EQ(patches.shape(), own);
    MaskedBatch whole = masked(context, batch);
    whole.masks.insert("encoder", patches);
    EXPECT_EQ(context.share(whole).masks.at("encoder"), patches);
    EXPECT_EQ(to_string(context.forecast(whole)),
              to_string(context.forecast(masked(context, batch))));
  });
}

}  // namespace
}  // namespace tessera
