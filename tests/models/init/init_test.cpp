#include "models/init/init.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/errors.h"

namespace tessera {
namespace {

using at::Tensor;

const InitSpec kNormal = InitSpec::normal(1.0);
const InitSpec kCut = InitSpec::truncated_normal(0.25, -0.5, 0.75);

Tensor whole(at::IntArrayRef shape, const InitSpec& init, uint64_t seed, const std::string& name,
             at::ScalarType dtype = at::kFloat) {
  Tensor parameter = at::empty(shape, dtype);
  initialize(parameter, init, seed, name);
  return parameter;
}

// The golden bits never change: a run with the seed of an old one starts from the same weights.
TEST(Init, GoldenValues) {
  const Tensor normal = whole({4}, kNormal, 42, "tok_embeddings.weight");
  const Tensor cut = whole({4}, kCut, 42, "output.weight");
  const float want_normal[] = {0x1.3422eap-1f, -0x1.36bfd2p-1f, -0x1.b86036p-1f, -0x1.f56b82p-4f};
  const float want_cut[] = {0x1.39d8d4p-2f, -0x1.19679p-2f, 0x1.fbb3c2p-2f, 0x1.ca4f6cp-2f};
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(normal[i].item<float>(), want_normal[i]) << std::hexfloat << normal[i].item<float>();
    EXPECT_EQ(cut[i].item<float>(), want_cut[i]) << std::hexfloat << cut[i].item<float>();
  }
}

TEST(Init, IsAFunctionOfSeedNameAndIndex) {
  const Tensor w = whole({64, 3}, kNormal, 1, "w");
  EXPECT_TRUE(at::equal(w, whole({64, 3}, kNormal, 1, "w")));
  EXPECT_TRUE(at::equal(w.view(-1), whole({192}, kNormal, 1, "w")));
  for (const Tensor& other : {whole({64, 3}, kNormal, 2, "w"), whole({64, 3}, kNormal, 1, "v")}) {
    // Independent: the correlation of 192 pairs stays within five standard errors.
    EXPECT_LT(std::abs((w * other).mean().item<double>()), 5 / std::sqrt(192.0));
  }
}

TEST(Init, ShardsAreSlicesOfTheWhole) {
  const std::vector<int64_t> shape = {37, 6, 11};
  for (const InitSpec& init : {kNormal, kCut, InitSpec::constant(3.0)}) {
    const Tensor all = whole(shape, init, 9, "w");
    std::mt19937 random(20);
    for (int round = 0; round < 200; ++round) {
      std::vector<int64_t> offset, sizes;
      Tensor want = all;
      for (size_t d = 0; d < shape.size(); ++d) {
        const bool entire = random() % 3 == 0;
        offset.push_back(entire ? 0 : static_cast<int64_t>(random() % shape[d]));
        sizes.push_back(entire ? shape[d]
                               : 1 + static_cast<int64_t>(random() % (shape[d] - offset[d])));
        want = want.narrow(static_cast<int64_t>(d), offset[d], sizes[d]);
      }
      Tensor shard = at::empty(sizes);
      initialize_shard(shard, {offset, sizes}, shape, init, 9, "w");
      ASSERT_TRUE(at::equal(shard, want)) << "round " << round << ": " << want.sizes();
    }
  }
}

TEST(Init, StridedAndEmptyShards) {
  const Tensor all = whole({5, 8}, kNormal, 9, "w");
  Tensor transposed = at::empty({8, 5}).t();
  initialize(transposed, kNormal, 9, "w");
  EXPECT_TRUE(at::equal(transposed, all));
  Tensor empty = at::empty({0, 8});
  initialize_shard(empty, {{5, 0}, {0, 8}}, {5, 8}, kNormal, 9, "w");
  EXPECT_EQ(empty.numel(), 0);
}

TEST(Init, OtherDtypesAreCastFromFloat32) {
  const Tensor all = whole({33}, kNormal, 9, "w");
  for (const at::ScalarType type : {at::kDouble, at::kBFloat16, at::kHalf}) {
    EXPECT_TRUE(at::equal(whole({33}, kNormal, 9, "w", type), all.to(type)));
  }
}

TEST(Init, DoesNotDependOnTheNumberOfThreads) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Tensor one = whole({300001}, kNormal, 9, "w");
  at::set_num_threads(3);
  const Tensor three = whole({300001}, kNormal, 9, "w");
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, three));
}

// Bounds that cut nothing off give the plain normal distribution, scaled.
TEST(Init, FarBoundsDoNotTruncate) {
  const Tensor far = whole({1000}, InitSpec::truncated_normal(0.5, -2000, 2000), 9, "w");
  EXPECT_TRUE(at::equal(far, whole({1000}, InitSpec::normal(0.5), 9, "w")));
}

TEST(Init, KeepsToTheBounds) {
  const Tensor cut = whole({100000}, kCut, 9, "w");
  EXPECT_GE(cut.min().item<float>(), -0.5f);
  EXPECT_LE(cut.max().item<float>(), 0.75f);
  EXPECT_LT(cut.min().item<float>(), -0.49f);
  EXPECT_GT(cut.max().item<float>(), 0.7f);
}

TEST(Init, WritesIntoLeavesThatRequireGradients) {
  Tensor leaf = at::zeros({4}).set_requires_grad(true);
  initialize(leaf, InitSpec::constant(2.0), 1, "norm.weight");
  EXPECT_TRUE(at::equal(leaf.detach(), at::full({4}, 2.0)));
  initialize(leaf, kNormal, 1, "w");
  EXPECT_TRUE(leaf.is_leaf() && leaf.requires_grad());
}

TEST(Init, Errors) {
  Tensor shard = at::zeros({2, 3});
  EXPECT_ERROR(initialize_shard(shard, {{3, 0}, {2, 3}}, {4, 3}, kNormal, 1, "layers.0.w"),
               "'layers.0.w'", "[2, 3]", "[3, 0]", "[4, 3]", "does not lie inside");
  EXPECT_ERROR(initialize_shard(shard, {{-1, 0}, {2, 3}}, {4, 3}, kNormal, 1, "w"), "[-1, 0]");
  EXPECT_ERROR(initialize_shard(shard, {{0}, {6}}, {6}, kNormal, 1, "w"), "[2, 3]", "[6]");
  EXPECT_ERROR(initialize_shard(shard, {{0, 0}, {2, 3}}, {1, 3}, InitSpec::constant(1), 1, "w"),
               "[1, 3]");
  EXPECT_ERROR(initialize_shard(shard, {{0, 0}, {1, 3}}, {4, 3}, kNormal, 1, "w"), "[2, 3]");
  Tensor meta = at::empty({2}, at::TensorOptions().device(at::kMeta));
  EXPECT_ERROR(initialize(meta, kNormal, 1, "w"), "'w'", "meta device", "materialise");
  Tensor undefined;
  EXPECT_ERROR(initialize(undefined, kNormal, 1, "w"), "'w'", "no tensor");
  Tensor integers = at::zeros({2}, at::kLong);
  EXPECT_ERROR(initialize(integers, kNormal, 1, "w"), "'w'", "Long", "floating-point");
}

}  // namespace
}  // namespace tessera
