#include "parallel/pipeline/pipeline_runtime.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <c10/util/Exception.h>

#include <chrono>
#include <deque>
#include <map>
#include <utility>

#include "attention/op/autograd.h"

namespace tessera::pipeline {
namespace {

using at::Tensor;
using Clock = std::chrono::steady_clock;

bool is_split(ActionKind kind) {
  return kind == ActionKind::kBackwardInput || kind == ActionKind::kBackwardWeight;
}

// A value that has arrived or is on its way.
struct Arrival {
  Tensor tensor;
  PendingWork work;

  Tensor take() {
    work.wait();
    return std::move(tensor);
  }
};

// A microbatch between the forward of a stage and its backward.
struct InFlight {
  Tensor input;   // leaf of the stage's graph
  Tensor output;  // its root
};

}  // namespace

// The state of one run().
class PipelineRuntime::Replay {
 public:
  Replay(PipelineRuntime& runtime, const PipelineInputs& inputs)
      : runtime_(runtime), plan_(runtime.plan_), inputs_(inputs), start_(Clock::now()) {
    const std::vector<int64_t> own = plan_.placement.stages_of(runtime.group_.rank());
    for (size_t i = 0; i < own.size(); ++i) stages_[own[i]] = &runtime.stages_[i];
    if (is_here(last_stage())) losses_.resize(static_cast<size_t>(plan_.num_microbatches));
  }

  std::vector<Tensor> run() {
    for (const Action& action : plan_.ranks[static_cast<size_t>(runtime_.group_.rank())]) {
      perform(action);
    }
    finish_sends(0);
    TORCH_INTERNAL_ASSERT(in_flight_.empty() && activations_.empty() && gradients_.empty());
    return std::move(losses_);
  }

 private:
  using Key = std::pair<int64_t, int64_t>;  // stage, microbatch
  static Key key(const Action& action) { return {action.stage, action.microbatch}; }

  int64_t last_stage() const { return plan_.placement.num_stages() - 1; }
  bool is_here(int64_t stage) const { return stages_.count(stage) > 0; }

  void perform(const Action& action) {
    switch (action.kind) {
      case ActionKind::kForward:
        return forward(action);
      case ActionKind::kBackward:
      case ActionKind::kBackwardInput:
        return backward(action);
      case ActionKind::kBackwardWeight:
        return timed(action,
                     [&] { stages_.at(action.stage)->weight_gradients->add(action.microbatch); });
      case ActionKind::kReduceGradients: {
        const auto& reduce = stages_.at(action.stage)->reduce_gradients;
        if (inputs_.is_last && reduce) reduce();
        return;
      }
      case ActionKind::kSendForward:
      case ActionKind::kSendBackward:
        return send(action);
      case ActionKind::kReceiveForward:
        return receive(action, activations_[key(action)]);
      case ActionKind::kReceiveBackward:
        return receive(action, gradients_[key(action)]);
    }
    TORCH_INTERNAL_ASSERT(false, "unknown action");
  }

  void forward(const Action& action) {
    Tensor input = input_of(action);
    Tensor output;
    timed(action, [&] {
      const at::AutoGradMode grad_mode(true);
      output = stages_.at(action.stage)->forward(input, action.microbatch);
    });
    if (action.stage == last_stage()) {
      TORCH_CHECK(output.numel() == 1, "pipeline: the last stage returned ", output.sizes(),
                  ", expected the loss as one number");
      losses_[static_cast<size_t>(action.microbatch)] = output.detach();
    } else {
      check_activation(action, output);
      pass_on(action.stage + 1, action.microbatch, output.detach(), activations_);
    }
    in_flight_[key(action)] = {.input = std::move(input), .output = std::move(output)};
  }

  Tensor input_of(const Action& action) {
    if (action.stage == 0) return inputs_.first_inputs[static_cast<size_t>(action.microbatch)];
    return take(activations_, key(action)).set_requires_grad(true);
  }

  // Runs B, or I, after which the products of linear layers wait for W.
  void backward(const Action& action) {
    Tensor d_output;
    if (action.stage != last_stage()) d_output = take(gradients_, key(action));
    InFlight own = std::move(in_flight_.extract(key(action)).mapped());
    timed(action, [&] {
      if (!d_output.defined()) d_output = at::full_like(own.output, inputs_.loss_gradient);
      if (action.kind == ActionKind::kBackwardInput) {
        const auto deferring = stages_.at(action.stage)->weight_gradients->defer(action.microbatch);
        run_backward({std::exchange(own.output, {})}, {d_output});
      } else {
        run_backward({std::exchange(own.output, {})}, {d_output});
      }
    });
    if (action.stage == 0) return;
    TORCH_CHECK(own.input.grad().defined(), "pipeline: the output of stage ", action.stage,
                " does not depend on its input");
    pass_on(action.stage - 1, action.microbatch, own.input.grad(), gradients_);
  }

  // Hands a value to the next computation of this rank, or to the send that follows.
  void pass_on(int64_t stage, int64_t microbatch, const Tensor& value,
               std::map<Key, Arrival>& values) {
    if (is_here(stage)) {
      values[{stage, microbatch}].tensor = value;
    } else {
      outgoing_[{stage, microbatch}] = value;
    }
  }

  void send(const Action& action) {
    const int64_t step = action.kind == ActionKind::kSendForward ? 1 : -1;
    const Tensor value =
        outgoing_.extract({action.stage + step, action.microbatch}).mapped().contiguous();
    sends_.push_back(runtime_.group_.send(value, peer_rank(action, plan_.placement),
                                          message_tag(action, plan_.num_microbatches)));
    finish_sends(kSendsUnderWay);
  }

  void finish_sends(size_t num_left) {
    for (; sends_.size() > num_left; sends_.pop_front()) sends_.front().wait();
  }

  void receive(const Action& action, Arrival& arrival) {
    const auto& shape = inputs_.activation_shapes[static_cast<size_t>(action.microbatch)];
    arrival.tensor = at::empty(shape, inputs_.activation_options);
    arrival.work = runtime_.group_.receive(arrival.tensor, peer_rank(action, plan_.placement),
                                           message_tag(action, plan_.num_microbatches));
  }

  static Tensor take(std::map<Key, Arrival>& values, const Key& key) {
    return values.extract(key).mapped().take();
  }

  // Checks the shape and dtype that the next stage expects without asking.
  void check_activation(const Action& action, const Tensor& output) const {
    const auto& shape = inputs_.activation_shapes[static_cast<size_t>(action.microbatch)];
    const auto dtype = c10::typeMetaToScalarType(inputs_.activation_options.dtype());
    TORCH_CHECK(output.sizes() == shape && output.scalar_type() == dtype, "pipeline: stage ",
                action.stage, " returned ", output.scalar_type(), " ", output.sizes(),
                " for microbatch ", action.microbatch, ", expected ", dtype, " ",
                at::IntArrayRef(shape));
  }

  template <typename Body>
  void timed(const Action& action, Body&& body) {
    const Clock::time_point begin = Clock::now();
    body();
    if (runtime_.times_ == nullptr) return;
    const auto seconds = [this](Clock::time_point time) {
      return std::chrono::duration<double>(time - start_).count();
    };
    runtime_.times_->push_back({action, seconds(begin), seconds(Clock::now())});
  }

  PipelineRuntime& runtime_;
  const ExecutionPlan& plan_;
  const PipelineInputs& inputs_;
  Clock::time_point start_;
  std::map<int64_t, RuntimeStage*> stages_;  // of this rank
  std::map<Key, InFlight> in_flight_;
  std::map<Key, Arrival> activations_;  // by the stage that they are for
  std::map<Key, Arrival> gradients_;
  std::map<Key, Tensor> outgoing_;
  std::deque<PendingWork> sends_;  // oldest first
  std::vector<Tensor> losses_;
};

PipelineRuntime::PipelineRuntime(ExecutionPlan plan, const ProcessGroup& group,
                                 std::vector<RuntimeStage> stages)
    : plan_(std::move(plan)), group_(group), stages_(std::move(stages)) {
  TORCH_CHECK(group_.size() == plan_.placement.num_ranks, "pipeline: the plan is for ",
              plan_.placement.num_ranks, " ranks, the group \"", group_.name(), "\" has ",
              group_.size());
  const std::vector<int64_t> own = plan_.placement.stages_of(group_.rank());
  TORCH_CHECK(own.size() == stages_.size(), "pipeline: rank ", group_.rank(), " was given ",
              stages_.size(), " stages, expected ", own.size());
  for (const Action& action : plan_.ranks[static_cast<size_t>(group_.rank())]) {
    if (!is_split(action.kind)) continue;
    const auto place = std::find(own.begin(), own.end(), action.stage) - own.begin();
    TORCH_CHECK(stages_[static_cast<size_t>(place)].weight_gradients != nullptr,
                "pipeline: the plan splits the backward of stage ", action.stage,
                ", which has no weight_gradients to take what is put off");
  }
}

bool PipelineRuntime::has_stage(int64_t stage) const {
  return plan_.placement.rank_of_stage[static_cast<size_t>(stage)] == group_.rank();
}

void PipelineRuntime::check_inputs(const PipelineInputs& inputs) const {
  const auto num_microbatches = static_cast<size_t>(plan_.num_microbatches);
  TORCH_CHECK(inputs.activation_shapes.size() == num_microbatches, "pipeline: got ",
              inputs.activation_shapes.size(), " activation shapes, expected one for each of ",
              num_microbatches, " microbatches");
  TORCH_CHECK(!has_stage(0) || inputs.first_inputs.size() == num_microbatches, "pipeline: got ",
              inputs.first_inputs.size(), " inputs of the first stage, expected one for each of ",
              num_microbatches, " microbatches");
}

std::vector<Tensor> PipelineRuntime::run(const PipelineInputs& inputs) {
  check_inputs(inputs);
  try {
    return Replay(*this, inputs).run();
  } catch (...) {
    for (const RuntimeStage& stage : stages_) {
      if (stage.weight_gradients != nullptr) stage.weight_gradients->drop();
    }
    throw;
  }
}

}  // namespace tessera::pipeline
