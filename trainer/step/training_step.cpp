#include "trainer/step/training_step.h"

#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <limits>

#include "trainer/support/text_format.h"

namespace tessera {
namespace {

// Watches the outputs of blocks for as long as it lives and notes the first one that is
// not finite.
class FiniteProbe {
 public:
  explicit FiniteProbe(std::vector<Block*> blocks) : blocks_(std::move(blocks)) {
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

std::string or_elsewhere(const std::string& name) {
  return name.empty() ? "on another rank" : name;
}

at::Tensor on_device(double value, at::Device device) {
  return at::full({1}, value, at::TensorOptions().dtype(at::kDouble).device(device));
}

std::string first_non_finite(const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (!at::isfinite(tensor).all().item<bool>()) return name;
  }
  return "";
}

// Adds the squares of x to `sum`, which is float64 [1]. The CPU goes through x in pieces, because a
// norm in float64 first copies all that it reads.
void add_sum_of_squares(const at::Tensor& x, at::Tensor& sum) {
  constexpr int64_t kNumbersAtOnce = int64_t{1} << 18;
  const at::Tensor flat = x.reshape({-1});
  for (const at::Tensor& part : flat.split(x.is_cpu() ? kNumbersAtOnce : x.numel())) {
    const at::Tensor norm = at::linalg_vector_norm(part, 2, c10::nullopt, false, at::kDouble);
    sum.addcmul_(norm, norm);
  }
}

}  // namespace

double gradient_norm(const std::vector<NamedShard>& gradients, const ProcessGroup& model_group) {
  at::Tensor sum = at::zeros({1}, at::TensorOptions().dtype(at::kDouble));
  for (const NamedShard& gradient : gradients) {
    if (!gradient.is_counted || gradient.tensor.numel() == 0) continue;
    if (sum.device() != gradient.tensor.device()) sum = sum.to(gradient.tensor.device());
    add_sum_of_squares(gradient.tensor, sum);
  }
  model_group.all_reduce(sum).wait();
  return std::sqrt(sum.item<double>());
}

TrainingStep::TrainingStep(RankModel& model, const TrainingStepOptions& options)
    : passes_(model.passes()),
      parameters_(model.parameters()),
      options_(options),
      mesh_(model.mesh()),
      optimizer_(parameters_.masters(), parameters_.gradients(), options.adamw) {}

int64_t TrainingStep::count_valid_labels(const std::vector<Batch>& microbatches) const {
  int64_t count = 0;
  for (const Batch& batch : microbatches) count += batch.num_valid_labels();
  return count;
}

// Sets result.loss from the sum of the ranks' sums, and result.max_loss to the largest mean over
// the rows that a rank reads; context-parallel ranks share those, so their sums are added first.
void TrainingStep::reduce_losses(double own_sum, int64_t own_labels, StepResult& result) const {
  const at::Tensor rows_sum = on_device(own_sum, parameters_.masters().device());
  mesh_.cp().all_reduce(rows_sum).wait();
  const double own_mean = own_labels > 0 ? rows_sum.item<double>() / static_cast<double>(own_labels)
                                         : -std::numeric_limits<double>::infinity();
  const ProcessGroup& group = mesh_.loss();
  const at::Tensor sum = on_device(own_sum, parameters_.masters().device());
  const at::Tensor max = on_device(own_mean, parameters_.masters().device());
  PendingWork summing = group.all_reduce(sum);
  group.all_reduce(max, ReduceOp::kMax).wait();
  summing.wait();
  result.loss = sum.item<double>() / static_cast<double>(result.num_valid_labels);
  result.max_loss = max.item<double>();
}

StepResult TrainingStep::accumulate_gradients(const std::vector<Batch>& microbatches) {
  StepResult result;
  const int64_t own_labels = count_valid_labels(microbatches);
  const at::Tensor all_labels =
      on_device(static_cast<double>(own_labels), parameters_.masters().device());
  mesh_.loss().all_reduce(all_labels).wait();
  // Context-parallel ranks read the same rows.
  result.num_valid_labels = static_cast<int64_t>(all_labels.item<double>()) / mesh_.cp().size();
  TORCH_CHECK(result.num_valid_labels > 0, "no label of this step is valid: ", microbatches.size(),
              " microbatches hold only ignored labels; expected at least one target to train on");

  parameters_.zero_gradients();
  const double own_sum =
      passes_.run(microbatches, 1.0 / static_cast<double>(result.num_valid_labels));
  parameters_.finish_gradients();
  reduce_losses(own_sum, own_labels, result);
  result.grad_norm = gradient_norm(parameters_.named(parameters_.gradients()), mesh_.model());
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
                         or_elsewhere(first_non_finite(parameters_.named_gradients())));
  }
  clip_gradients(result.grad_norm);
  optimizer_.step(lr);
  parameters_.refresh();
  return result;
}

void TrainingStep::clip_gradients(double grad_norm) {
  constexpr double kEpsilon = 1e-6;  // torch.nn.utils.clip_grad_norm_ has the same
  const double scale = options_.max_norm / (grad_norm + kEpsilon);
  if (scale < 1.0) parameters_.gradients().mul_(scale);
}

// Every rank runs the whole function, so that all communicate alike, and names what it saw itself.
std::string TrainingStep::first_non_finite_block(const std::vector<Batch>& microbatches) {
  const std::string parameter = first_non_finite(parameters_.named_masters());
  const FiniteProbe probe(passes_.blocks());
  passes_.replay(microbatches);
  if (!parameter.empty()) return "parameter " + parameter;
  if (probe.first() == "output") return "the head (logits or cross entropy)";
  return probe.first().empty() ? "another rank" : "the output of block " + probe.first();
}

}  // namespace tessera
