#include "parallel/segment.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/support/errors.h"

namespace tessera {
namespace {

using at::Tensor;

Tensor leaf(at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble).set_requires_grad(true); }

// A chain of blocks y = tanh(x W) + x with their weights.
struct SegmentChain {
  explicit SegmentChain(int length) {
    for (int i = 0; i < length; ++i) {
      weights.push_back(leaf({4, 4}));
      blocks.push_back({.name = "layers." + std::to_string(i)});
    }
  }

  static Tensor layer(const Tensor& x, const Tensor& w) { return at::matmul(x, w).tanh() + x; }

  Tensor plain(Tensor h) const {
    for (const Tensor& w : weights) h = layer(h, w);
    return h;
  }

  Tensor segmented(Tensor h) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      h = run_segment(blocks[i], h, [w = weights[i]](const Tensor& x) { return layer(x, w); });
    }
    return h;
  }

  std::vector<Tensor> take_grads() {
    std::vector<Tensor> grads;
    for (Tensor& w : weights) grads.push_back(std::exchange(w.mutable_grad(), {}));
    return grads;
  }

  void recompute(bool on) {
    for (Block& block : blocks) block.recompute = on;
  }

  // Every callback of block i appends "<event><i>".
  void record(std::string& log) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      const auto event = [&log, i](const std::string& what) {
        return [&log, text = what + std::to_string(i) + " "] { log += text; };
      };
      SegmentCallbacks& callbacks = blocks[i].callbacks;
      callbacks.before_forward = event("f");
      callbacks.after_forward = event("F");
      callbacks.before_backward = event("b");
      callbacks.after_backward = event("B");
      callbacks.observe = [log_event = event("o")](const Tensor&) { log_event(); };
    }
  }

  std::vector<Tensor> weights;
  std::vector<Block> blocks;
};

void expect_bitwise(const std::vector<Tensor>& got, const std::vector<Tensor>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].defined(), want[i].defined()) << i;
    EXPECT_TRUE(!want[i].defined() || at::equal(got[i], want[i])) << i;
  }
}

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class SegmentTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { at::manual_seed(7); }
  bool recompute() const { return GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Recompute, SegmentTest, ::testing::Bool());

TEST_P(SegmentTest, BitwiseEqualToThePlainGraph) {
  SegmentChain chain(5);
  chain.recompute(recompute());
  Tensor x = leaf({3, 4});
  const Tensor want = chain.plain(x);
  want.sum().backward();
  std::vector<Tensor> want_grads = chain.take_grads();
  want_grads.push_back(std::exchange(x.mutable_grad(), {}));

  const Tensor got = chain.segmented(x);
  EXPECT_TRUE(at::equal(got, want));
  got.sum().backward();
  std::vector<Tensor> got_grads = chain.take_grads();
  got_grads.push_back(x.grad());
  expect_bitwise(got_grads, want_grads);
}

TEST_P(SegmentTest, AccumulatesOverSteps) {
  SegmentChain chain(3);
  chain.recompute(recompute());
  const Tensor a = at::randn({2, 4}, at::kDouble), b = at::randn({5, 4}, at::kDouble);
  for (const Tensor& x : {a, b}) chain.plain(x).sum().backward();
  const std::vector<Tensor> want = chain.take_grads();
  for (const Tensor& x : {a, b}) chain.segmented(x).sum().backward();
  expect_bitwise(chain.take_grads(), want);
}

TEST_P(SegmentTest, TwoForwardsBeforeTwoBackwards) {
  SegmentChain chain(3);
  chain.recompute(recompute());
  const Tensor a = at::randn({2, 4}, at::kDouble), b = at::randn({5, 4}, at::kDouble);
  const Tensor plain_a = chain.plain(a).sum(), plain_b = chain.plain(b).sum();
  plain_a.backward();
  plain_b.backward();
  const std::vector<Tensor> want = chain.take_grads();
  const Tensor ya = chain.segmented(a).sum(), yb = chain.segmented(b).sum();
  ya.backward();
  yb.backward();
  expect_bitwise(chain.take_grads(), want);
}

TEST_P(SegmentTest, CallbacksRunInOrder) {
  SegmentChain chain(2);
  chain.recompute(recompute());
  std::string log;
  chain.record(log);
  const Tensor y = chain.segmented(at::randn({2, 4}, at::kDouble));
  EXPECT_EQ(log, "f0 o0 F0 f1 o1 F1 ");
  log.clear();
  y.sum().backward();
  EXPECT_EQ(log, "b1 B1 b0 B0 ");  // a recomputed forward is neither announced nor observed
}

TEST_P(SegmentTest, WithoutGradOnlyForwardCallbacksRun) {
  SegmentChain chain(2);
  chain.recompute(recompute());
  std::string log;
  chain.record(log);
  const Tensor x = leaf({2, 4});
  const Tensor want = chain.plain(x);
  at::NoGradGuard no_grad;
  const Tensor y = chain.segmented(x);
  EXPECT_TRUE(at::equal(y, want));
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(log, "f0 o0 F0 f1 o1 F1 ");
}

TEST_P(SegmentTest, ObserveSeesTheOutputWithoutItsGraph) {
  Block block{.name = "block", .recompute = recompute()};
  Tensor seen;
  block.callbacks.observe = [&seen](const Tensor& output) { seen = output; };
  const Tensor w = leaf({4, 4});
  const Tensor y =
      run_segment(block, leaf({2, 4}), [w](const Tensor& x) { return at::matmul(x, w); });
  EXPECT_TRUE(at::equal(seen, y.detach()));
  EXPECT_FALSE(seen.requires_grad());
}

TEST_P(SegmentTest, TokenIdsAsInput) {
  Block block{.name = "embedding", .recompute = recompute()};
  Tensor table = leaf({6, 3});
  const Tensor ids = at::arange(4);
  at::embedding(table, ids).square().sum().backward();
  const Tensor want = std::exchange(table.mutable_grad(), {});
  run_segment(block, ids, [table](const Tensor& x) { return at::embedding(table, x); })
      .square()
      .sum()
      .backward();
  expect_bitwise({table.grad()}, {want});
}

TEST_P(SegmentTest, OneParameterInTwoSegments) {
  Block first{.name = "first", .recompute = recompute()}, second = first;
  Tensor w = leaf({4, 4});
  const Tensor x = at::randn({2, 4}, at::kDouble);
  SegmentChain::layer(SegmentChain::layer(x, w), w).sum().backward();
  const Tensor want = std::exchange(w.mutable_grad(), {});
  const auto layer = [w](const Tensor& h) { return SegmentChain::layer(h, w); };
  run_segment(second, run_segment(first, x, layer), layer).sum().backward();
  expect_bitwise({w.grad()}, {want});
}

TEST_P(SegmentTest, SegmentsNest) {
  Block outer{.name = "outer", .recompute = recompute()};
  SegmentChain chain(2);
  chain.recompute(true);
  const Tensor x = at::randn({2, 4}, at::kDouble);
  chain.plain(x).sum().backward();
  const std::vector<Tensor> want = chain.take_grads();
  run_segment(outer, x, [&chain](const Tensor& h) { return chain.segmented(h); }).sum().backward();
  expect_bitwise(chain.take_grads(), want);
}

TEST_P(SegmentTest, FrozenParametersAndInput) {
  Block block{.name = "frozen", .recompute = recompute()};
  const Tensor w = at::randn({4, 4}, at::kDouble);
  const Tensor y = run_segment(block, at::randn({2, 4}, at::kDouble),
                               [w](const Tensor& x) { return at::matmul(x, w); });
  y.sum().backward();
  EXPECT_FALSE(w.grad().defined());
}

TEST_P(SegmentTest, KeepsActivationsOnlyWithoutRecompute) {
  Block block{.name = "block", .recompute = recompute()};
  const Tensor w = leaf({4, 4});
  c10::weak_intrusive_ptr<c10::StorageImpl> hidden(
      c10::intrusive_ptr<c10::StorageImpl>{});  // of an intermediate that tanh's backward needs
  const Tensor y = run_segment(block, leaf({2, 4}), [w, &hidden](const Tensor& x) {
    const Tensor h = at::matmul(x, w).tanh();
    hidden = h.storage().getWeakStorageImpl();
    return h.square();
  });
  EXPECT_EQ(hidden.expired(), recompute());
  y.sum().backward();
  EXPECT_TRUE(hidden.expired());  // backward frees what it used
}

TEST_P(SegmentTest, DroppedWithoutBackwardFreesItsGraph) {
  Block block{.name = "block", .recompute = recompute()};
  const Tensor w = leaf({4, 4});
  const auto captured = std::make_shared<int>(1);
  run_segment(block, leaf({2, 4}),
              [w, captured](const Tensor& x) { return at::matmul(x, w).tanh(); });
  EXPECT_EQ(captured.use_count(), 1);
}

TEST_P(SegmentTest, BackwardRunsOnce) {
  SegmentChain chain(1);
  chain.recompute(recompute());
  const Tensor y = chain.segmented(leaf({2, 4})).sum();
  y.backward({}, /*retain_graph=*/true);
  EXPECT_ERROR(y.backward(), "'layers.0'", "runs once");
}

TEST_P(SegmentTest, ExceptionsOfForward) {
  SegmentChain chain(1);
  chain.recompute(recompute());
  std::string log;
  chain.record(log);
  const Tensor x = leaf({2, 4});
  const auto fail = [](const Tensor&) -> Tensor { throw Failure("in forward"); };
  EXPECT_THROW(run_segment(chain.blocks[0], x, fail), Failure);
  EXPECT_EQ(log, "f0 F0 ");
  log.clear();
  at::NoGradGuard no_grad;
  EXPECT_THROW(run_segment(chain.blocks[0], x, fail), Failure);
  EXPECT_EQ(log, "f0 F0 ");
}

TEST_P(SegmentTest, ExceptionsOfForwardCallbacks) {
  SegmentChain chain(1);
  chain.recompute(recompute());
  std::string log;
  const Tensor x = leaf({2, 4});
  const auto fail = [] { throw Failure("in a callback"); };

  chain.record(log);
  chain.blocks[0].callbacks.before_forward = fail;
  EXPECT_THROW(chain.segmented(x), Failure);
  EXPECT_EQ(log, "F0 ");

  log.clear();
  chain.record(log);
  chain.blocks[0].callbacks.observe = [fail](const Tensor&) { fail(); };
  EXPECT_THROW(chain.segmented(x), Failure);
  EXPECT_EQ(log, "f0 F0 ");

  log.clear();
  chain.record(log);
  chain.blocks[0].callbacks.after_forward = fail;
  EXPECT_THROW(chain.segmented(x), Failure);
  EXPECT_EQ(log, "f0 o0 ");
}

TEST_P(SegmentTest, ExceptionsInBackward) {
  SegmentChain chain(2);
  chain.recompute(recompute());
  std::string log;
  const auto fail = [] { throw Failure("in a callback"); };

  chain.record(log);
  chain.blocks[0].callbacks.before_backward = fail;
  const Tensor first = chain.segmented(leaf({2, 4})).sum();
  log.clear();
  EXPECT_THROW(first.backward(), Failure);
  EXPECT_EQ(log, "b1 B1 B0 ");

  chain.record(log);
  chain.blocks[1].callbacks.after_backward = fail;
  const Tensor second = chain.segmented(leaf({2, 4})).sum();
  log.clear();
  EXPECT_THROW(second.backward(), Failure);
  EXPECT_EQ(log, "b1 ");

  chain.record(log);  // the engine and the blocks are usable afterwards
  chain.take_grads();
  const Tensor x = at::randn({2, 4}, at::kDouble);
  chain.segmented(x).sum().backward();
  const std::vector<Tensor> got = chain.take_grads();
  chain.plain(x).sum().backward();
  expect_bitwise(got, chain.take_grads());
}

TEST(Segment, ExceptionOfTheRecomputedForward) {
  SegmentChain chain(1);
  chain.recompute(true);
  std::string log;
  chain.record(log);
  int calls = 0;
  const Tensor y = run_segment(chain.blocks[0], leaf({2, 4}), [&calls](const Tensor& x) {
    if (++calls == 2) throw Failure("in the second forward");
    return x * 2;
  });
  log.clear();
  EXPECT_THROW(y.sum().backward(), Failure);
  EXPECT_EQ(log, "b0 B0 ");
  EXPECT_EQ(calls, 2);
}

TEST(Segment, TheFirstExceptionWins) {
  Block block{.name = "block"};
  block.callbacks.after_forward = [] { throw std::logic_error("second"); };
  EXPECT_THROW(
      run_segment(block, leaf({2, 4}), [](const Tensor&) -> Tensor { throw Failure("first"); }),
      Failure);
}

TEST(Segment, DeepChain) {
  SegmentChain chain(200);
  chain.recompute(true);
  const Tensor x = at::randn({2, 4}, at::kDouble);
  chain.plain(x).sum().backward();
  const std::vector<Tensor> want = chain.take_grads();
  chain.segmented(x).sum().backward();
  expect_bitwise(chain.take_grads(), want);
}

}  // namespace
}  // namespace tessera
