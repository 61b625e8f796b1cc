// ShardedParameters over ranks that are threads: one training problem, every layout, equal results.
#include "parallel/fsdp/sharded_parameters.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "parallel/comm/device_mesh.h"
#include "tests/support/errors.h"
#include "tests/support/run_ranks.h"

namespace tessera {
namespace {

using at::Tensor;
using testing::run_ranks;

// in -> first -> middle -> in's weight again (tied), rows that do not divide by the ranks.
struct TinyModel {
  TinyModel() {
    declare(in, in_weight, "in.weight", {7, 5});
    declare(first, first_weight, "first.weight", {7, 7});
    declare(first, first_bias, "first.bias", {7});
    declare(middle, middle_weight, "middle.weight", {7, 7});
  }
  static void declare(Block& block, Tensor& member, const std::string& name,
                      at::IntArrayRef sizes) {
    member = at::empty(sizes, at::TensorOptions().device(at::kMeta));
    block.slots.push_back({name, &member, InitSpec::constant(0)});
  }
  std::vector<Block*> blocks() { return {&in, &first, &middle}; }

  Tensor loss(const Tensor& x_N5) {
    Tensor h = run_segment(in, x_N5, [this](const Tensor& x) { return at::linear(x, in_weight); });
    h = run_segment(first, h, [this](const Tensor& x) {
      return at::tanh(at::linear(x, first_weight, first_bias));
    });
    h = run_segment(middle, h,
                    [this](const Tensor& x) { return at::tanh(at::linear(x, middle_weight)); });
    h = run_segment(in, h, [this](const Tensor& x) { return at::linear(x, in_weight.t()); });
    return (h * h).sum();
  }

  Block in{.name = "in"}, first{.name = "first"}, middle{.name = "middle"};
  Tensor in_weight, first_weight, first_bias, middle_weight;
};

// A function of name and global index alone.
void fill(const NamedShard& shard) {
  const std::vector<int64_t>& global = shard.whole_shape;
  Tensor whole = at::sin(at::arange(c10::multiply_integers(global), at::kDouble) +
                         static_cast<double>(shard.name.size()))
                     .view(global);
  for (size_t dim = 0; dim < global.size(); ++dim) {
    const auto d = static_cast<int64_t>(dim);
    whole = whole.narrow(d, std::min(shard.where.offset[dim], global[dim]), shard.tensor.size(d));
  }
  at::NoGradGuard no_grad;
  shard.tensor.copy_(whole);
}

Tensor row_values(int64_t row) {
  return at::sin(at::arange(5, at::kDouble) + static_cast<double>(10 * row)).view({1, 5});
}

struct Layout {
  ParallelDims dims = {};
  bool recompute = false;
  bool reshard = true;
  bool reduce_at_end = false;
  int64_t bucket_bytes = int64_t{25} << 20;
};

// Masters after three plain gradient steps of two microbatches each, as one flat list by parameter.
std::map<std::string, Tensor> train(const World& world, const Layout& layout) {
  const DeviceMesh mesh(world, layout.dims);
  TinyModel model;
  for (Block* block : model.blocks()) block->recompute = layout.recompute;
  ShardedParameters parameters(model.blocks(),
                               {.shard = mesh.shard(), .replicate = mesh.replicate()},
                               {.master_dtype = at::kDouble,
                                .compute_dtype = at::kDouble,
                                .reshard_after_forward = layout.reshard,
                                .reduce_at_end = layout.reduce_at_end,
                                .bucket_bytes = layout.bucket_bytes});
  for (const NamedShard& shard : parameters.named(parameters.masters())) fill(shard);
  parameters.refresh();

  constexpr int64_t kRows = 8, kMicrobatches = 2;
  const int64_t rows_per_rank = kRows / mesh.num_batch_ranks();
  for (int64_t step = 0; step < 3; ++step) {
    parameters.zero_gradients();
    for (int64_t m = 0; m < kMicrobatches; ++m) {
      if (m + 1 == kMicrobatches) parameters.expect_last_backward();
      std::vector<Tensor> rows;
      for (int64_t r = 0; r < rows_per_rank; ++r) {
        rows.push_back(row_values((step * kMicrobatches + m) * kRows +
                                  mesh.batch_index() * rows_per_rank + r));
      }
      model.loss(at::cat(rows)).backward();
    }
    if (layout.reduce_at_end) parameters.reduce_gradients({model.blocks().back()});  // one early
    parameters.finish_gradients();
    parameters.masters().sub_(parameters.gradients(), 1e-3);
    parameters.refresh();
  }

  std::map<std::string, Tensor> result;
  for (const NamedShard& shard : parameters.named(parameters.masters())) {
    const std::vector<int64_t>& global = shard.whole_shape;
    Tensor whole = at::zeros(global, at::kDouble);
    if (shard.tensor.numel() > 0) {
      whole.narrow(0, shard.where.offset[0], shard.tensor.size(0)).copy_(shard.tensor);
    }
    mesh.shard().all_reduce(whole).wait();
    result[shard.name] = whole;
  }
  return result;
}

void expect_equals_one_rank(int64_t num_ranks, const Layout& layout) {
  std::map<std::string, Tensor> expected;
  run_ranks(1, [&](const World& world) { expected = train(world, {}); });
  run_ranks(num_ranks, [&](const World& world) {
    const std::map<std::string, Tensor> got = train(world, layout);
    ASSERT_EQ(got.size(), expected.size());
    for (const auto& [name, tensor] : expected) {
      const double difference = (got.at(name) - tensor).abs().max().item<double>();
      EXPECT_LT(difference, 1e-12) << name << " on rank " << world.rank();
    }
  });
}

TEST(ShardedParameters, FsdpEqualsOneRank) {
  for (const int64_t ranks : {2, 4, 8}) expect_equals_one_rank(ranks, {});
}

TEST(ShardedParameters, DdpEqualsOneRank) {
  expect_equals_one_rank(2, {.dims = {.dp_replicate = 2}});
  expect_equals_one_rank(4, {.dims = {.dp_replicate = 4}, .bucket_bytes = 1});
}

TEST(ShardedParameters, HsdpEqualsOneRank) {
  expect_equals_one_rank(4, {.dims = {.dp_replicate = 2}});
  expect_equals_one_rank(8, {.dims = {.dp_replicate = 4}, .bucket_bytes = 100});
}

TEST(ShardedParameters, PoliciesChangeNothing) {
  expect_equals_one_rank(2, {.recompute = true});
  expect_equals_one_rank(2, {.reshard = false});
  expect_equals_one_rank(2, {.reduce_at_end = true});
  expect_equals_one_rank(4, {.dims = {.dp_replicate = 2}, .reshard = false, .reduce_at_end = true});
}

// A chain of equal layers, so that a unit is an eighth of the model.
struct ShardedChain {
  explicit ShardedChain(int64_t num_layers) : blocks(static_cast<size_t>(num_layers)) {
    for (int64_t i = 0; i < num_layers; ++i) {
      blocks[static_cast<size_t>(i)].name = "layers." + std::to_string(i);
      weights.emplace_back();
      TinyModel::declare(blocks[static_cast<size_t>(i)], weights.back(),
                         "layers." + std::to_string(i), {64, 64});
    }
  }
  Tensor loss(const Tensor& x) {
    Tensor h = x;
    for (size_t i = 0; i < blocks.size(); ++i) {
      h = run_segment(blocks[i], h,
                      [this, i](const Tensor& in) { return at::linear(in, weights[i]); });
    }
    return h.sum();
  }
  std::vector<Block> blocks;
  std::deque<Tensor> weights;
};

TEST(ShardedParameters, HoldsItsPartAtRestAndAtMostThreeUnitsMoreInAStep) {
  constexpr int64_t kLayers = 8, kUnitBytes = 64 * 64 * 4;
  run_ranks(4, [&](const World& world) {
    ShardedChain chain(kLayers);
    std::vector<Block*> blocks;
    for (Block& block : chain.blocks) blocks.push_back(&block);
    ShardedParameters parameters(blocks, {.shard = world.all()}, {});
    const auto own_bytes = static_cast<int64_t>(parameters.masters().nbytes());
    EXPECT_EQ(own_bytes, kLayers * kUnitBytes / 4);
    EXPECT_EQ(parameters.gradients().nbytes(), parameters.masters().nbytes());
    parameters.refresh();
    for (int step = 0; step < 2; ++step) {  // the second one gathers ahead
      parameters.zero_gradients();
      parameters.expect_last_backward();
      chain.loss(at::zeros({1, 64})).backward();
      parameters.finish_gradients();
      parameters.refresh();
      EXPECT_EQ(parameters.transient_bytes().now, 0);
    }
    EXPECT_LE(parameters.transient_bytes().peak, 3 * kUnitBytes);
    EXPECT_GE(parameters.transient_bytes().peak, 2 * kUnitBytes);
  });
}

TEST(ShardedParameters, MixedPrecisionGathersHalfTypesAndSumsInTheMasterType) {
  run_ranks(2, [](const World& world) {
    ShardedChain chain(1);
    ShardedParameters parameters({&chain.blocks[0]}, {.shard = world.all()},
                                 {.compute_dtype = at::kBFloat16});
    EXPECT_EQ(chain.weights[0].scalar_type(), at::kBFloat16);
    EXPECT_EQ(parameters.masters().scalar_type(), at::kFloat);
    parameters.masters().fill_(1.00390625);  // between two values of bfloat16
    parameters.refresh();
    parameters.zero_gradients();
    chain.loss(at::zeros({1, 64}, at::kBFloat16).fill_(1 + 2 * world.rank())).backward();
    parameters.finish_gradients();
    EXPECT_EQ(parameters.gradients().scalar_type(), at::kFloat);
    EXPECT_EQ(parameters.gradients()[0].item<float>(), 4.0f);  // 1 + 3
  });
}

TEST(ShardedParameters, RefusesWhatItCannotOwn) {
  TinyModel model;
  model.first.slots.push_back(model.in.slots[0]);
  EXPECT_ERROR(ShardedParameters(model.blocks(), {}, {}), "in.weight", "occurs twice");
  TinyModel busy;
  busy.in.callbacks.before_forward = [] {};
  EXPECT_ERROR(ShardedParameters(busy.blocks(), {}, {}), "block 'in' has callbacks already");
  TinyModel integers;
  EXPECT_ERROR(ShardedParameters(integers.blocks(), {}, {.compute_dtype = at::kLong}), "Long",
               "floating-point");
  TinyModel fine;
  ShardedParameters parameters(fine.blocks(), {}, {});
  EXPECT_ERROR(parameters.share_gradient("nothing", ProcessGroup()), "no parameter 'nothing'");
}

}  // namespace
}  // namespace tessera
