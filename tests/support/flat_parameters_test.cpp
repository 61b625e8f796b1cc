#include "tests/support/flat_parameters.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

using at::Tensor;

Tensor meta(at::IntArrayRef sizes) {
  return at::empty(sizes, at::TensorOptions().device(at::kMeta).dtype(at::kFloat));
}

// Members of a pretended module and their slots.
struct Members {
  Tensor matrix = meta({3, 5}), vector = meta({7}), scalar = meta({}), last = meta({2, 32});
  std::vector<ParameterSlot> slots = {{"matrix", &matrix, {}},
                                      {"vector", &vector, {}},
                                      {"scalar", &scalar, {}},
                                      {"last", &last, {}}};
};

TEST(FlatParameters, LayoutIsAlignedAndDisjoint) {
  Members m;
  const FlatLayout layout = flat_layout(m.slots);
  EXPECT_EQ(layout.offsets, (std::vector<int64_t>{0, 32, 64, 96}));
  EXPECT_EQ(layout.numel, 160);
}

TEST(FlatParameters, BindMakesLeavesOverOneBuffer) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    Members m;
    const Tensor flat = bind_flat(m.slots, type);
    EXPECT_FALSE(flat.requires_grad());
    for (const ParameterSlot& slot : m.slots) {
      EXPECT_TRUE(slot.tensor->is_leaf() && slot.tensor->requires_grad()) << slot.name;
      EXPECT_EQ(slot.tensor->scalar_type(), type);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(slot.tensor->data_ptr()) % 64, 0u) << slot.name;
    }
    EXPECT_EQ(m.matrix.sizes(), (std::vector<int64_t>{3, 5}));
    EXPECT_EQ(m.scalar.dim(), 0);
    flat.copy_(at::arange(160));
    EXPECT_EQ(m.vector[6].item<double>(), 38.0);
    EXPECT_EQ(m.scalar.item<double>(), 64.0);
    EXPECT_EQ(m.last[1][0].item<double>(), 128.0);
  }
}

TEST(FlatParameters, PaddingIsZero) {
  Members m;
  const Tensor flat = bind_flat(m.slots, at::kDouble);
  at::NoGradGuard no_grad;
  for (const ParameterSlot& slot : m.slots) slot.tensor->fill_(1);
  EXPECT_EQ(flat.sum().item<double>(), 15 + 7 + 1 + 64);
}

TEST(FlatParameters, BufferMayBeRewrittenBetweenForwardAndBackward) {
  Members m;
  const Tensor flat = bind_flat(m.slots, at::kDouble);
  flat.fill_(2);
  const Tensor loss = (m.vector * m.vector).sum();
  flat.fill_(5);
  loss.backward();
  EXPECT_TRUE(at::equal(m.vector.grad(), at::full({7}, 10.0, at::kDouble)));  // of the new values
}

TEST(FlatParameters, GradientViewsAccumulateInPlace) {
  Members m;
  bind_flat(m.slots, at::kFloat).fill_(3);
  const Tensor grads = at::zeros({flat_layout(m.slots).numel});
  const std::vector<Tensor> views = flat_views(grads, m.slots);
  for (size_t i = 0; i < m.slots.size(); ++i) m.slots[i].tensor->mutable_grad() = views[i];
  for (int step = 0; step < 2; ++step) (m.vector.sum() + m.scalar * 4).backward();
  EXPECT_EQ(grads.sum().item<double>(), 2 * (7 + 4));
  EXPECT_EQ(grads[64].item<double>(), 8);
}

TEST(FlatParameters, Errors) {
  Members m;
  EXPECT_ERROR(flat_views(at::ones({10}), m.slots), "[10]", "contiguous [160]");
  EXPECT_ERROR(flat_views(at::ones({2, 80}), m.slots), "[2, 80]", "contiguous [160]");
  EXPECT_ERROR(bind_flat(m.slots, at::kLong), "Long", "floating-point");
  Tensor undefined;
  EXPECT_ERROR(bind_flat({{"w", &undefined, {}}}, at::kFloat), "'w'", "no tensor");
  EXPECT_ERROR(bind_flat({{"w", &m.matrix, {}}, {"w", &m.vector, {}}}, at::kFloat), "'w'", "twice");
  EXPECT_ERROR(bind_flat({{"a", &m.matrix, {}}, {"b", &m.matrix, {}}}, at::kFloat), "'b'",
               "tied parameter has one slot");
}

}  // namespace
}  // namespace tessera
