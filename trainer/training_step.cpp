#include "trainer/training_step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "trainer/loss.h"
#include "trainer/text_format.h"

namespace tessera {
namespace {

// Watches the outputs of a model's blocks for as long as it lives and notes the first one that is
// not finite.
class FiniteProbe {
 public:
  explicit FiniteProbe(Model& model) : blocks_(model.blocks()) {
    for (Block* block : blocks_) {
      saved_.push_back(
          std::exchange(block->callbacks.observe, [this, block](const at::Tensor& output) {
            if (first_.empty() && !at::isfinite(output).all().item<bool>()) first_ = block->name;
          }));
    }
  }
  ~FiniteProbe() {
    for (size_t i = 0; i < blocks_.size(); ++i)
      blocks_[i]->callbacks.observe = std::move(saved_[i]);
  }
  FiniteProbe(const FiniteProbe&) = delete;
  FiniteProbe& operator=(const FiniteProbe&) = delete;

  const std::string& first() const { return first_; }

 private:
  std::vector<Block*> blocks_;
  std::vector<std::function<void(const at::Tensor&)>> saved_;
  std::string first_;
};

std::string first_non_finite(const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (!at::isfinite(tensor).all().item<bool>()) return name;
  }
  return "";
}

}  // namespace

double gradient_norm(const NamedTensors& gradients) {
  std::vector<at::Tensor> norms;
  norms.reserve(gradients.size());
  for (const auto& [name, gradient] : gradients) {
    norms.push_back(at::linalg_vector_norm(gradient, 2, c10::nullopt, false, at::kDouble));
  }
  return at::linalg_vector_norm(at::stack(norms)).item<double>();
}

TrainingStep::TrainingStep(Model& model, ParameterStore& parameters, const Tokenizer& tokenizer,
                           CreateMaskFn create_mask_fn, const TrainingStepOptions& options)
    : model_(model),
      parameters_(parameters),
      tokenizer_(tokenizer),
      create_mask_fn_(std::move(create_mask_fn)),
      options_(options),
      optimizer_(parameters.masters(), parameters.gradients(), options.adamw) {}

at::Tensor TrainingStep::loss_sum(const Batch& batch) {
  const AttentionMasks masks =
      model_.get_attention_masks(create_mask_fn_, batch, tokenizer_, Extras{});
  const at::Tensor hidden_BTD =
      model_.trunk(batch.tokens_BT, masks, {.positions_BT = batch.positions_BT});
  const at::Tensor weight_VD = model_.head_weight();
  return cross_entropy_sum(hidden_BTD, weight_VD, batch.labels_BT,
                           loss_chunk_tokens(weight_VD.size(0)));
}

StepResult TrainingStep::accumulate_gradients(const std::vector<Batch>& microbatches) {
  StepResult result;
  for (const Batch& batch : microbatches) result.num_valid_labels += batch.num_valid_labels();
  TORCH_CHECK(result.num_valid_labels > 0, "no label of this step is valid: ", microbatches.size(),
              " microbatches hold only ignored labels; expected at least one target to train on");

  parameters_.zero_gradients();
  for (const Batch& batch : microbatches) {
    const at::Tensor sum = loss_sum(batch);
    const double share = 1.0 / static_cast<double>(result.num_valid_labels);
    torch::autograd::backward({sum}, {at::full_like(sum, share)});
    result.loss += sum.item<double>() * share;
  }
  result.grad_norm = gradient_norm(parameters_.named_gradients());
  return result;
}

StepResult TrainingStep::run(const std::vector<Batch>& microbatches, double lr) {
  const StepResult result = accumulate_gradients(microbatches);
  if (!std::isfinite(result.loss)) {
    throw NonFiniteError("the loss is " + fixed(result.loss, 6) + "; first seen in " +
                         first_non_finite_block(microbatches));
  }
  if (!std::isfinite(result.grad_norm)) {
    throw NonFiniteError("the gradient norm is " + fixed(result.grad_norm, 6) +
                         "; first parameter with such a gradient: " +
                         first_non_finite(parameters_.named_gradients()));
  }
  clip_gradients(result.grad_norm);
  optimizer_.step(lr);
  parameters_.refresh();
  return result;
}

void TrainingStep::clip_gradients(double grad_norm) {
  constexpr double kEpsilon = 1e-6;  // as torch.nn.utils.clip_grad_norm_
  const double scale = options_.max_norm / (grad_norm + kEpsilon);
  if (scale < 1.0) parameters_.gradients().mul_(scale);
}

std::string TrainingStep::first_non_finite_block(const std::vector<Batch>& microbatches) {
  const std::string parameter = first_non_finite(parameters_.named_masters());
  if (!parameter.empty()) return "parameter " + parameter;
  const at::NoGradGuard no_grad;
  const FiniteProbe probe(model_);
  for (const Batch& batch : microbatches) {
    loss_sum(batch);
    if (!probe.first().empty()) return "the output of block " + probe.first();
  }
  return "the head (logits or cross entropy)";
}

}  // namespace tessera
