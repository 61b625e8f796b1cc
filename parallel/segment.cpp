#include "parallel/segment.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <memory>

#include "attention/op/autograd.h"

namespace tessera {
namespace {

using at::Tensor;

void call(const std::function<void()>& callback) {
  if (callback) callback();
}

// Runs before(), body(), after(): after runs whatever happens, and the first exception is the one
// that leaves.
template <typename Body>
void bracketed(const std::function<void()>& before, const std::function<void()>& after,
               Body&& body) {
  try {
    call(before);
    body();
  } catch (...) {
    try {
      call(after);
    } catch (...) {  // the exception that is on its way explains more
    }
    throw;
  }
  call(after);
}

// The forward pass as every path runs it: before_forward, forward, observe, after_forward.
Tensor run_forward(const Block& block, const Tensor& input, const SegmentFn& forward,
                   bool record_graph) {
  Tensor output;
  bracketed(block.callbacks.before_forward, block.callbacks.after_forward, [&] {
    {
      at::AutoGradMode grad_mode(record_graph);
      output = forward(input);
    }
    if (block.callbacks.observe) block.callbacks.observe(output.detach());
  });
  return output;
}

// The state between a segment's forward and its backward: with `recompute` the input and the
// function to run again, otherwise the output at the end of the inner graph.
struct PendingBackward {
  explicit PendingBackward(Block& owner) : block(owner) {}

  Block& block;
  Tensor input;   // leaf of the inner graph; undefined once backward has run
  Tensor output;  // undefined with recompute
  SegmentFn forward;
};

Tensor forward_of(PendingBackward& pending, const Tensor& input, SegmentFn forward) {
  const Block& block = pending.block;
  pending.input = input.detach().set_requires_grad(input.requires_grad());
  const Tensor output = run_forward(block, pending.input, forward, !block.recompute);
  if (block.recompute) {
    pending.forward = std::move(forward);
  } else {
    pending.output = output;
  }
  return output.detach();
}

// The gradient of the input.
Tensor backward_of(PendingBackward& pending, const Tensor& d_output) {
  const Block& block = pending.block;
  TORCH_CHECK(pending.input.defined(), "block '", block.name,
              "': backward of its segment ran before, and a segment's backward runs once");
  const Tensor input = std::exchange(pending.input, {});
  Tensor output = std::exchange(pending.output, {});
  const SegmentFn forward = std::exchange(pending.forward, {});
  bracketed(block.callbacks.before_backward, block.callbacks.after_backward, [&] {
    if (!output.defined()) {
      at::AutoGradMode grad_mode(true);
      output = forward(input);
    }
    // Frozen parameters and an input without gradient leave nothing to differentiate.
    if (output.requires_grad()) run_backward({std::exchange(output, {})}, {d_output});
  });
  return input.grad();
}

}  // namespace

Tensor run_segment(Block& block, const Tensor& input, SegmentFn forward) {
  if (!at::GradMode::is_enabled()) return run_forward(block, input, forward, false);
  // The anchor is a scalar that requires a gradient: without it the outer graph would not record a
  // segment whose input has none (token ids), and its weights would silently get no gradient.
  const Tensor anchor = at::zeros({}).set_requires_grad(true);
  const auto pending = std::make_shared<PendingBackward>(block);
  return record(
      {anchor, input},
      [&] { return Forwarded{.outputs = {forward_of(*pending, input, std::move(forward))}}; },
      [pending](const BackwardCall& call) -> Tensors {
        return {Tensor(), backward_of(*pending, call.gradients[0])};
      })[0];
}

}  // namespace tessera
