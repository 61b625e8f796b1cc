#include "attention/op/autograd.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

at::Tensor number(double value) { return at::full({2}, value).set_requires_grad(true); }

// x * y, and x + y.
Tensors product_and_sum(const at::Tensor& x, const at::Tensor& y, AbsentGradient absent) {
  return record(
      {x, y},
      [&] {
        return Forwarded{.outputs = {x * y, x + y}, .saved = {x, y}};
      },
      [](const BackwardCall& call) -> Tensors {
        const at::Tensor &d_product = call.gradients[0], &d_sum = call.gradients[1];
        if (!d_sum.defined()) return {d_product * call.saved[1], d_product * call.saved[0]};
        return {d_product * call.saved[1] + d_sum, d_product * call.saved[0] + d_sum};
      },
      absent);
}

TEST(Record, GivesEachInputItsGradient) {
  for (const AbsentGradient absent : {AbsentGradient::kZeros, AbsentGradient::kUndefined}) {
    const at::Tensor x = number(3), y = number(5);
    const Tensors outputs = product_and_sum(x, y, absent);
    EXPECT_TRUE(outputs[0].equal(at::full({2}, 15.0)));
    run_backward(outputs, {at::full({2}, 2.0), at::full({2}, 7.0)});
    EXPECT_TRUE(x.grad().equal(at::full({2}, 17.0)));
    EXPECT_TRUE(y.grad().equal(at::full({2}, 13.0)));
  }
}

TEST(Record, OutputsWithoutAGradientGiveZerosOrNothing) {
  for (const AbsentGradient absent : {AbsentGradient::kZeros, AbsentGradient::kUndefined}) {
    const at::Tensor x = number(3);
    bool is_defined = false;
    const Tensors outputs = record(
        {x},
        [&] {
          return Forwarded{.outputs = {x * 2, x * 3}};
        },
        [&](const BackwardCall& call) -> Tensors {
          is_defined = call.gradients[1].defined();
          if (is_defined) {
            EXPECT_EQ(call.gradients[1].abs().max().item<double>(), 0.0);
          }
          return {call.gradients[0] * 2};
        },
        absent);
    run_backward({outputs[0]}, {at::ones({2})});
    EXPECT_EQ(is_defined, absent == AbsentGradient::kZeros);
    EXPECT_TRUE(x.grad().equal(at::full({2}, 2.0)));
  }
}

TEST(Record, KnowsWhichInputsAreWanted) {
  const at::Tensor x = number(3), constant = at::full({2}, 4.0);
  std::vector<bool> wanted;
  const Tensors outputs = record(
      {constant, at::Tensor(), x}, [&] { return Forwarded{.outputs = {x * constant}}; },
      [&, constant](const BackwardCall& call) -> Tensors {
        wanted = call.wanted;
        return {at::Tensor(), at::Tensor(), call.gradients[0] * constant};
      });
  run_backward(outputs, {at::ones({2})});
  EXPECT_EQ(wanted, (std::vector<bool>{false, false, true}));
  EXPECT_TRUE(x.grad().equal(constant));
}

TEST(Record, RefusesWrongGradients) {
  const at::Tensor x = number(3);
  const auto backward_giving = [&](const Tensors& gradients) {
    const Tensors outputs = record(
        {x, at::Tensor()}, [&] { return Forwarded{.outputs = {x * 2}}; },
        [gradients](const BackwardCall&) { return gradients; });
    run_backward(outputs, {at::ones({2})});
  };
  EXPECT_ERROR(backward_giving({at::ones({2})}), "1 gradients for 2 inputs");
  EXPECT_ERROR(backward_giving({at::ones({2}), at::ones({2})}), "input 1, which is undefined");
}

TEST(Record, RecordsNothingWithoutGradMode) {
  const at::Tensor x = number(3), constant = at::full({2}, 4.0);
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(product_and_sum(x, x, AbsentGradient::kZeros)[0].requires_grad());
}

TEST(Record, ConstantsGiveConstants) {
  const at::Tensor constant = at::full({2}, 4.0);
  EXPECT_FALSE(product_and_sum(constant, constant, AbsentGradient::kZeros)[0].requires_grad());
}

TEST(Record, SavedTensorsAreReleasedByBackward) {
  const at::Tensor x = number(3);
  at::Tensor kept = at::ones({2});
  const c10::weak_intrusive_ptr<at::TensorImpl> watched(kept.getIntrusivePtr());
  const Tensors outputs = record(
      {x}, [&] { return Forwarded{.outputs = {x * kept}, .saved = {std::exchange(kept, {})}}; },
      [](const BackwardCall& call) -> Tensors { return {call.gradients[0] * call.saved[0]}; });
  EXPECT_FALSE(watched.expired());
  run_backward(outputs, {at::ones({2})});
  EXPECT_TRUE(watched.expired());
  EXPECT_ERROR(run_backward(outputs, {at::ones({2})}), "backward through the graph a second time");
}

TEST(Record, BackwardThatSavesNothingMayRunAgain) {
  const at::Tensor x = number(3);
  const Tensors outputs = record(
      {x}, [&] { return Forwarded{.outputs = {x * 2}}; },
      [](const BackwardCall& call) -> Tensors { return {call.gradients[0] * 2}; });
  run_backward(outputs, {at::ones({2})});
  run_backward(outputs, {at::ones({2})});
  EXPECT_TRUE(x.grad().equal(at::full({2}, 4.0)));
}

TEST(Record, ASavedOutputDoesNotKeepItselfAlive) {
  const at::Tensor x = number(3);
  Tensors outputs = record(
      {x},
      [&] {
        const at::Tensor y = x.exp();
        return Forwarded{.outputs = {y}, .saved = {y}};
      },
      [](const BackwardCall& call) -> Tensors { return {call.gradients[0] * call.saved[0]}; });
  const c10::weak_intrusive_ptr<at::TensorImpl> watched(outputs[0].getIntrusivePtr());
  outputs.clear();
  EXPECT_TRUE(watched.expired());
}

TEST(Record, NoticesChangesInPlace) {
  const at::Tensor x = number(3), factor = at::ones({2});
  const Tensors outputs = product_and_sum(x, factor, AbsentGradient::kZeros);
  factor.add_(1);
  EXPECT_ERROR(run_backward({outputs[0]}, {at::ones({2})}), "modified by an inplace operation");
}

TEST(Record, ErrorsOfForwardPass) {
  const at::Tensor x = number(3);
  const auto fails = []() -> Forwarded { TORCH_CHECK(false, "no forward"); };
  EXPECT_ERROR(record({x}, fails, [](const BackwardCall&) { return Tensors{}; }), "no forward");
}

}  // namespace
}  // namespace tessera
