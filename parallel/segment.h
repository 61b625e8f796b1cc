// Segments: each block of a model runs as an autograd graph of its own.
//
// The outer graph sees one node per block, so "before the block's backward" and "after it" are
// lines of code instead of hooks: activation checkpointing, FSDP (gather before use, free after,
// reduce after backward) and diagnostics are all callbacks here. With no callbacks a segment
// changes no bit of any result.
//
//   Block block{.name = "layers.0", .slots = {...}};
//   at::Tensor y = run_segment(block, x, [&layer, mask, rope](const at::Tensor& h) {
//     return layer.forward(h, mask, rope);
//   });
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "parallel/slot.h"

namespace tessera {

// Any of the callbacks may be empty. Each "after" runs once for its "before", also when something
// between them threw.
struct SegmentCallbacks {
  std::function<void()> before_forward = {};
  std::function<void()> after_forward = {};

  // A recomputed forward runs between these two.
  std::function<void()> before_backward = {};
  std::function<void()> after_backward = {};

  // Sees each forward's output (diagnostics), but not a recomputed one.
  std::function<void(const at::Tensor& output)> observe = {};
};

// A unit of a model: what FSDP shards together and what activation checkpointing recomputes
// together. One forward may run several segments of a unit (a final norm, then the head); each has
// its own before / after pairs.
struct Block {
  std::string name;
  std::vector<ParameterSlot> slots = {};

  // Full checkpointing: drop the activations in forward, run forward again in backward.
  bool recompute = false;

  SegmentCallbacks callbacks = {};
};

using SegmentFn = std::function<at::Tensor(const at::Tensor& input)>;

// Runs forward(input) as the block's segment and returns its output, attached to the outer graph.
//
// `input` may be an integer tensor (token ids). `forward` must be a pure function of its input, of
// what it captured (masks, positions: no gradient) and of the block's parameters; with `recompute`
// it runs a second time in backward, after run_segment has returned, so it captures by value what
// the caller does not keep. Segments nest. The block must outlive the backward pass. A segment's
// backward runs once; a second one throws c10::Error naming the block. Under no-grad only
// before_forward, forward, observe and after_forward run. An exception from forward or a callback
// reaches the caller unchanged, after after_forward / after_backward have run; if these throw as
// well, the first exception wins.
at::Tensor run_segment(Block& block, const at::Tensor& input, SegmentFn forward);

}  // namespace tessera
