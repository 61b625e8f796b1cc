// Differentiable functions of our own. LibTorch's headers for them take ten seconds to compile;
// they are included by autograd.cpp alone.
//
//   at::Tensor square(const at::Tensor& x) {
//     return record({x}, [&] { return Forwarded{.outputs = {x * x}, .saved = {x}}; },
//                   [](const BackwardCall& call) -> Tensors {
//                     return {call.gradients[0] * call.saved[0] * 2};
//                   })[0];
//   }
//
// record() is torch::autograd::Function underneath: forward runs without recording; backward's own
// operations are recorded where the caller creates a graph of gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace tessera {

using Tensors = std::vector<at::Tensor>;

struct Forwarded {
  Tensors outputs;

  // Backward reads these: inputs, outputs or others, also undefined ones. They are released after
  // backward, and backward throws c10::Error if one of them was changed in place since. Tensors
  // that backward captures instead live as long as the graph, and an output among them forever.
  Tensors saved = {};
};

struct BackwardCall {
  Tensors saved;
  Tensors gradients;         // those of the outputs
  std::vector<bool> wanted;  // for each input, whether somebody asks for its gradient
};

// Returns one gradient for each input; an undefined tensor says that there is none, and is what an
// undefined input gets.
using BackwardFn = std::function<Tensors(const BackwardCall&)>;

// Backward gets this for an output that has no gradient.
enum class AbsentGradient { kZeros, kUndefined };

// Runs forward, and returns its outputs as a function of those inputs that are defined.
Tensors record(const Tensors& inputs, const std::function<Forwarded()>& forward,
               BackwardFn backward, AbsentGradient absent = AbsentGradient::kZeros);

// Adds to the gradients of all leaves that `roots` depend on; `gradients` are those of the roots.
void run_backward(const Tensors& roots, const Tensors& gradients);

}  // namespace tessera
