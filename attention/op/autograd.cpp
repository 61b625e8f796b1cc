#include "attention/op/autograd.h"

#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace tessera {
namespace {

using torch::autograd::AutogradContext;

// A graph node keeps this besides the saved tensors.
struct Held : torch::CustomClassHolder {
  Held(BackwardFn backward_fn, const Tensors& inputs) : backward(std::move(backward_fn)) {
    for (const at::Tensor& input : inputs) is_defined.push_back(input.defined());
  }

  BackwardFn backward;
  std::vector<bool> is_defined;  // for each input
  bool has_saved = false;
};

constexpr const char* kHeld = "held";
constexpr size_t kArgumentsAfterInputs = 3;

BackwardCall call_of(const AutogradContext& context, const Held& held, Tensors gradients) {
  BackwardCall call{.saved = {}, .gradients = std::move(gradients), .wanted = {}};
  // LibTorch refuses a second backward pass even where nothing is asked for.
  if (held.has_saved) call.saved = context.get_saved_variables();
  size_t edge = 0;
  for (const bool is_defined : held.is_defined) {
    call.wanted.push_back(is_defined && context.needs_input_grad(edge));
    if (is_defined) ++edge;
  }
  return call;
}

struct Recorded : torch::autograd::Function<Recorded> {
  static Tensors forward(AutogradContext* context, at::TensorList /*inputs*/,
                         const std::function<Forwarded()>& forward,
                         const c10::intrusive_ptr<Held>& held, bool gives_zeros) {
    Forwarded result = forward();
    held->has_saved = !result.saved.empty();
    context->saved_data[kHeld] = at::IValue::make_capsule(held);
    context->save_for_backward(std::move(result.saved));
    context->set_materialize_grads(gives_zeros);
    return std::move(result.outputs);
  }

  static Tensors backward(AutogradContext* context, Tensors gradients) {
    const auto held =
        c10::static_intrusive_pointer_cast<Held>(context->saved_data[kHeld].toCapsule());
    Tensors of_inputs = held->backward(call_of(*context, *held, std::move(gradients)));
    TORCH_INTERNAL_ASSERT(of_inputs.size() == held->is_defined.size(), "a backward gives ",
                          of_inputs.size(), " gradients for ", held->is_defined.size(), " inputs");
    Tensors of_variables;
    for (size_t i = 0; i < of_inputs.size(); ++i) {
      TORCH_INTERNAL_ASSERT(held->is_defined[i] || !of_inputs[i].defined(),
                            "a backward gives a gradient for input ", i, ", which is undefined");
      if (held->is_defined[i]) of_variables.push_back(std::move(of_inputs[i]));
    }
    of_variables.resize(of_variables.size() + kArgumentsAfterInputs);
    return of_variables;
  }
};

}  // namespace

Tensors record(const Tensors& inputs, const std::function<Forwarded()>& forward,
               BackwardFn backward, AbsentGradient absent) {
  Tensors defined;  // LibTorch takes no others
  for (const at::Tensor& input : inputs) {
    if (input.defined()) defined.push_back(input);
  }
  return Recorded::apply(at::TensorList(defined), forward,
                         c10::make_intrusive<Held>(std::move(backward), inputs),
                         absent == AbsentGradient::kZeros);
}

void run_backward(const Tensors& roots, const Tensors& gradients) {
  torch::autograd::backward(roots, gradients);
}

}  // namespace tessera
