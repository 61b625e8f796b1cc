// Expected numbers are counted by hand; tests/trainer/estimate/estimate_test.cpp checks that a real
// step has the same.
#include "parallel/fsdp/step_bytes.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

// Three units of 512 bytes; a rank's half of one is 256.
ShardedStepBytes bytes_of(const ShardedStep& step, const std::vector<int64_t>& uses = {0, 1, 2}) {
  const std::vector<ShardLayout> layouts(3, shard_layout({{4, 32}}, step.num_shard_ranks));
  return sharded_step_bytes(layouts, uses, step);
}

TEST(StepBytes, FsdpGathersForwardAndBackward) {
  // Forward gathers all; the last unit stays, so backward gathers two.
  const ShardedStepBytes bytes = bytes_of({.num_shard_ranks = 2});
  EXPECT_EQ(bytes.shard_numel, 3 * 64);
  EXPECT_EQ(bytes.num_gathers, 5);
  EXPECT_EQ(bytes.gather_sent, 5 * 256);
  EXPECT_EQ(bytes.num_reductions, 3);
  EXPECT_EQ(bytes.reduce_sent, 3 * 256);
  EXPECT_EQ(bytes.transient_peak, 3 * 512);
  EXPECT_EQ(bytes.replicate_sent, 0);
  EXPECT_EQ(bytes_of({.num_shard_ranks = 2, .num_microbatches = 2}).num_gathers, 10);
  EXPECT_EQ(bytes_of({.num_shard_ranks = 2, .reshard_last_block = true}).num_gathers, 6);
  EXPECT_EQ(bytes_of({.num_shard_ranks = 2, .reshard_after_forward = false}).num_gathers, 3);
}

TEST(StepBytes, ATiedUnitIsGatheredAndReducedForEachUse) {
  const ShardedStepBytes bytes = bytes_of({.num_shard_ranks = 2}, {0, 1, 2, 0});
  EXPECT_EQ(bytes.num_reductions, 4);
  EXPECT_GT(bytes.num_gathers, 5);
}

TEST(StepBytes, HalfTypesAreGatheredAndMastersReduced) {
  const ShardedStepBytes bytes = bytes_of({.num_shard_ranks = 2, .compute_bytes = 2});
  EXPECT_EQ(bytes.gather_sent, 5 * 128);
  EXPECT_EQ(bytes.reduce_sent, 3 * 256);
}

TEST(StepBytes, AReductionInFlightCostsAUnitMore) {
  const ShardedStepBytes bytes = bytes_of({.num_shard_ranks = 2, .num_reductions_in_flight = 1});
  EXPECT_EQ(bytes.reduce_sent, 3 * 256);
  EXPECT_GT(bytes.transient_peak, 3 * 512);
}

TEST(StepBytes, GradientsStayUntilTheyAreReduced) {
  // Two microbatches forward, then backward, of units 0 and 1; unit 2 is left to the step's end.
  using Kind = UnitEvent::Kind;
  std::vector<UnitEvent> events;
  for (const int64_t unit : {0, 1, 2, 0, 1, 2}) events.push_back({Kind::kForward, unit});
  for (const int64_t unit : {2, 1, 0, 2, 1, 0}) events.push_back({Kind::kBackward, unit});
  for (const int64_t unit : {0, 1, 1}) events.push_back({Kind::kReduce, unit});
  ShardedStep step{.num_shard_ranks = 2, .reshard_after_forward = false, .reduce_at_end = true};
  const std::vector<ShardLayout> layouts(3, shard_layout({{4, 32}}, 2));
  const ShardedStepBytes kept = sharded_step_bytes(layouts, events, step);
  EXPECT_EQ(kept.num_gathers, 3);
  EXPECT_EQ(kept.num_reductions, 3);
  EXPECT_EQ(kept.transient_peak, 3 * 512 + 3 * 512 + 512);  // parameters, gradients, one arriving
  step.reshard_after_forward = step.reshard_last_block = true;
  const ShardedStepBytes freed = sharded_step_bytes(layouts, events, step);
  EXPECT_EQ(freed.num_reductions, 3);
  EXPECT_GT(freed.num_gathers, 3);
  EXPECT_LT(freed.transient_peak, kept.transient_peak);
}

TEST(StepBytes, ReplicasSumInBuckets) {
  const ShardedStepBytes bytes = bytes_of({.num_replicate_ranks = 2, .bucket_bytes = 1100});
  EXPECT_EQ(bytes.num_gathers, 0);
  EXPECT_EQ(bytes.transient_peak, 0);
  EXPECT_EQ(bytes.num_buckets, 2);  // two units, then the one left
  EXPECT_EQ(bytes.replicate_sent, 3 * 512);
}

}  // namespace
}  // namespace tessera
