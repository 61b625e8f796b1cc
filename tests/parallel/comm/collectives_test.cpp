#include "parallel/comm/collectives.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/run_ranks.h"

namespace tessera {
namespace {

using testing::run_ranks;

// A [2, 6] matrix with entries that tell rank and place.
at::Tensor rank_values(int64_t rank) {
  return (at::arange(12, at::kDouble).view({2, 6}) + 100.0 * static_cast<double>(rank));
}

// The gradient of sum(weights * f(x)), weights different in every element and rank.
at::Tensor gradient_of(const std::function<at::Tensor(const at::Tensor&)>& f, at::Tensor x,
                       int64_t rank) {
  x = x.detach().set_requires_grad(true);
  const at::Tensor y = f(x);
  const at::Tensor weights =
      at::arange(y.numel(), at::kDouble).view(y.sizes()) + 1000.0 * static_cast<double>(rank);
  (y * weights).sum().backward();
  return x.grad();
}

TEST(Collectives, OneRankReturnsItsInput) {
  const ProcessGroup one;
  const at::Tensor x = rank_values(0);
  for (const at::Tensor& y : {gather_dim(x, 1, one), scatter_sum(x, 1, one), sum_over(x, one),
                              spread_over(x, one), exchange_dims(x, 1, 0, one)}) {
    EXPECT_TRUE(y.is_same(x));
  }
}

TEST(Collectives, GatherDimJoinsPartsAndItsGradientSumsThem) {
  run_ranks(2, [](const World& world) {
    const ProcessGroup group = world.all();
    const int64_t rank = group.rank();
    const auto gather = [&](const at::Tensor& x) { return gather_dim(x, 1, group); };
    EXPECT_TRUE(at::equal(gather(rank_values(rank)), at::cat({rank_values(0), rank_values(1)}, 1)));
    // Each rank weighs the whole [2, 12] by arange + 1000 rank: the sum is 2 arange + 1000.
    const at::Tensor whole = at::arange(24, at::kDouble).view({2, 12}) * 2 + 1000;
    EXPECT_TRUE(
        at::equal(gradient_of(gather, rank_values(rank), rank), whole.narrow(1, 6 * rank, 6)));
  });
}

TEST(Collectives, ScatterSumKeepsAPartAndItsGradientGathers) {
  run_ranks(2, [](const World& world) {
    const ProcessGroup group = world.all();
    const int64_t rank = group.rank();
    const auto scatter = [&](const at::Tensor& x) { return scatter_sum(x, 1, group); };
    const at::Tensor sum = rank_values(0) + rank_values(1);
    EXPECT_TRUE(at::equal(scatter(rank_values(rank)), sum.narrow(1, 3 * rank, 3)));
    const at::Tensor part = at::arange(6, at::kDouble).view({2, 3});
    EXPECT_TRUE(
        at::equal(gradient_of(scatter, rank_values(rank), rank), at::cat({part, part + 1000}, 1)));
  });
}

TEST(Collectives, SumOverAndSpreadOverMirrorEachOther) {
  run_ranks(2, [](const World& world) {
    const ProcessGroup group = world.all();
    const int64_t rank = group.rank();
    const auto sum = [&](const at::Tensor& x) { return sum_over(x, group); };
    const auto spread = [&](const at::Tensor& x) { return spread_over(x, group); };
    const at::Tensor x = rank_values(rank), weights = rank_values(0);
    EXPECT_TRUE(at::equal(sum(x), rank_values(0) + rank_values(1)));
    EXPECT_TRUE(at::equal(gradient_of(sum, x, 0), weights));
    EXPECT_TRUE(at::equal(spread(x), x));
    EXPECT_TRUE(at::equal(gradient_of(spread, x, rank), weights * 2 + 1000));
  });
}

TEST(Collectives, ExchangeDimsTradesOneDimForAnotherAndBack) {
  run_ranks(2, [](const World& world) {
    const ProcessGroup group = world.all();
    const int64_t rank = group.rank();
    const auto exchange = [&](const at::Tensor& x) { return exchange_dims(x, 1, 0, group); };
    const at::Tensor expected = at::cat({rank_values(0), rank_values(1)}, 0).narrow(1, 3 * rank, 3);
    const at::Tensor exchanged = exchange(rank_values(rank));
    EXPECT_TRUE(at::equal(exchanged, expected));
    EXPECT_TRUE(at::equal(exchange_dims(exchanged, 0, 1, group), rank_values(rank)));
    // Rank r's rows 2 rank, 2 rank + 1 of each peer's [4, 3] weights, joined along dim 1.
    const at::Tensor weights = at::arange(12, at::kDouble).view({4, 3}).narrow(0, 2 * rank, 2);
    EXPECT_TRUE(at::equal(gradient_of(exchange, rank_values(rank), rank),
                          at::cat({weights, weights + 1000}, 1)));
  });
}

TEST(Collectives, RefuseDimsThatDoNotDivide) {
  run_ranks(4, [](const World& world) {
    const ProcessGroup group = world.all();
    EXPECT_ERROR(scatter_sum(rank_values(0), 1, group), "scatter_sum", "dim 1 of [2, 6]",
                 "4 ranks");
    EXPECT_ERROR(exchange_dims(rank_values(0), 1, 0, group), "exchange_dims", "dim 1 of [2, 6]",
                 "4 ranks");
  });
}

}  // namespace
}  // namespace tessera
