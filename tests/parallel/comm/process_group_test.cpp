#include "parallel/comm/process_group.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>

#include "tests/support/errors.h"
#include "tests/support/run_ranks.h"

namespace tessera {
namespace {

using testing::run_ranks;

at::Tensor values(std::initializer_list<double> list) {
  return at::tensor(std::vector<double>(list), at::kDouble);
}

TEST(ProcessGroup, OneRankIsTheIdentity) {
  const ProcessGroup group;
  EXPECT_EQ(group.size(), 1);
  EXPECT_EQ(group.rank(), 0);
  const at::Tensor x = values({1, 2});
  group.all_reduce(x).wait();
  at::Tensor gathered = at::zeros({2}, at::kDouble);
  group.all_gather({gathered}, {x}).wait();
  group.reduce_scatter_add({gathered}, {x}).wait();
  EXPECT_TRUE(at::equal(x, values({1, 2})));
  EXPECT_TRUE(at::equal(gathered, values({2, 4})));
  group.barrier();
}

TEST(ProcessGroup, AllReduceSumsAndTakesExtremes) {
  run_ranks(4, [](const World& world) {
    const ProcessGroup group = world.all();
    const auto rank = static_cast<double>(group.rank());
    const at::Tensor sum = values({rank, 1}), low = values({rank, 1}), high = values({rank, 1});
    group.all_reduce(sum).wait();
    group.all_reduce(low, ReduceOp::kMin).wait();
    group.all_reduce(high, ReduceOp::kMax).wait();
    EXPECT_TRUE(at::equal(sum, values({6, 4})));
    EXPECT_TRUE(at::equal(low, values({0, 1})));
    EXPECT_TRUE(at::equal(high, values({3, 1})));
  });
}

TEST(ProcessGroup, AllGatherFillsSeveralTensorsAlsoInPlace) {
  run_ranks(2, [](const World& world) {
    const ProcessGroup group = world.all();
    const double rank = static_cast<double>(group.rank());
    const at::Tensor whole = at::zeros({4}, at::kDouble);
    const at::Tensor own_part = whole.narrow(0, 2 * group.rank(), 2);
    own_part.copy_(values({rank, 10 + rank}));
    const at::Tensor other = at::zeros({2, 1}, at::kDouble);
    group.all_gather({whole, other}, {own_part, values({7 * rank})}).wait();
    EXPECT_TRUE(at::equal(whole, values({0, 10, 1, 11})));
    EXPECT_TRUE(at::equal(other.flatten(), values({0, 7})));
  });
}

TEST(ProcessGroup, ReduceScatterAddsTheSumOfEachRanksPart) {
  run_ranks(3, [](const World& world) {
    const ProcessGroup group = world.all();
    const at::Tensor output = at::full({2}, 100.0, at::kDouble);
    const at::Tensor input = at::arange(6, at::kDouble) * static_cast<double>(group.rank() + 1);
    group.reduce_scatter_add({output}, {input}).wait();
    const auto first = static_cast<double>(2 * group.rank());
    EXPECT_TRUE(at::equal(output, values({100 + 6 * first, 100 + 6 * (first + 1)})));
  });
}

TEST(ProcessGroup, AllToAllMovesUnevenRows) {
  run_ranks(2, [](const World& world) {
    const ProcessGroup group = world.all();
    // Rank 0 keeps 1 row and sends 2; rank 1 keeps 2 and sends none.
    const bool first = group.rank() == 0;
    const at::Tensor input = first ? at::arange(6, at::kDouble).view({3, 2})
                                   : at::arange(10, 14, at::kDouble).view({2, 2});
    const at::Tensor output = at::zeros({first ? 1 : 4, 2}, at::kDouble);
    group
        .all_to_all(output, input, first ? std::vector<int64_t>{1, 0} : std::vector<int64_t>{2, 2},
                    first ? std::vector<int64_t>{1, 2} : std::vector<int64_t>{0, 2})
        .wait();
    const at::Tensor expected = first ? values({0, 1}) : values({2, 3, 4, 5, 10, 11, 12, 13});
    EXPECT_TRUE(at::equal(output.flatten(), expected));
    EXPECT_EQ(group.counters().num_bytes_sent, first ? 32 : 0);
    EXPECT_EQ(group.counters().num_calls, 1);
  });
}

TEST(ProcessGroup, SendsMeetReceivesByTag) {
  run_ranks(2, [](const World& world) {
    const ProcessGroup group = world.all();
    const int64_t peer = 1 - group.rank();
    const auto rank = static_cast<double>(group.rank());
    const at::Tensor a = at::zeros({1}, at::kDouble), b = at::zeros({1}, at::kDouble);
    PendingWork sent_1 = group.send(values({rank + 1}), peer, 1);
    PendingWork sent_2 = group.send(values({rank + 2}), peer, 2);
    group.receive(b, peer, 2).wait();
    group.receive(a, peer, 1).wait();
    sent_1.wait();
    sent_2.wait();
    EXPECT_EQ(a.item<double>(), static_cast<double>(peer) + 1);
    EXPECT_EQ(b.item<double>(), static_cast<double>(peer) + 2);
  });
}

TEST(ProcessGroup, RefusesStridedTensorsAndWrongSizes) {
  run_ranks(2, [](const World& world) {
    const ProcessGroup group = world.all();
    const at::Tensor strided = at::zeros({4}, at::kDouble).slice(0, 0, 4, 2);
    EXPECT_ERROR(group.all_reduce(strided), "all_reduce", "\"world\"", "strides [2]");
    EXPECT_ERROR(group.all_gather({at::zeros({3})}, {at::zeros({2})}), "all_gather", "[3]", "[2]",
                 "2 times");
    EXPECT_ERROR(group.reduce_scatter_add({at::zeros({2})}, {at::zeros({3})}), "reduce_scatter",
                 "[3]", "[2]");
    EXPECT_ERROR(group.all_to_all(at::zeros({2}), at::zeros({2}), {1, 2}, {1, 1}), "all_to_all",
                 "rows 1 2", "sum to dim 0");
  });
}

// The message of a reduction that fails.
std::string all_reduce_failure(const ProcessGroup& group) {
  try {
    group.all_reduce(values({1})).wait();
  } catch (const CommError& error) {
    return error.what();
  }
  return "no CommError";
}

// The message of the error is without Gloo's advice.
TEST(ProcessGroup, ALostPeerIsAnErrorThatNamesGroupAndOperation) {
  run_ranks(2, [](const World& world) {
    const ProcessGroup group = world.group("tp", {0, 1});
    if (world.rank() == 1) return;  // drops its connections
    EXPECT_THAT(
        all_reduce_failure(group),
        ::testing::AllOf(::testing::HasSubstr("all_reduce in group \"tp\" (ranks 0, 1) failed: "),
                         ::testing::Not(::testing::HasSubstr("This is typically"))));
  });
}

TEST(ProcessGroup, APeerThatHangsIsAnErrorAfterTheTimeout) {
  std::latch is_told(1);
  run_ranks(2, [&](const World& world) {
    const ProcessGroup group = world.group("tp", {0, 1});
    group.set_timeout(std::chrono::milliseconds(100));
    if (world.rank() == 1) return is_told.wait();
    EXPECT_THAT(
        all_reduce_failure(group),
        ::testing::MatchesRegex("all_reduce in group \"tp\" \\(ranks 0, 1\\) failed: .*"
                                "Timed out waiting 100ms for [a-z]+ operation to complete"));
    is_told.count_down();
  });
}

}  // namespace
}  // namespace tessera
