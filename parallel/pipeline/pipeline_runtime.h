// PipelineRuntime runs a pipeline: it replays this rank's list of an ExecutionPlan
// (communication.h), forwards, backwards, sends, receives and reductions in the order in which they
// stand there.
//
//   PipelineRuntime runtime(derive_communication(schedule), mesh.pp(), stages);   // of this rank
//   std::vector<at::Tensor> losses = runtime.run({.first_inputs = tokens, ...});
//
// The runtime knows a stage as a function. Masks, positions and labels are not its business: the
// function captures those of every microbatch, and they get no gradient.
//
// Shapes of activations are known ahead, so nothing but activations and their gradients travels. A
// receive is posted where the plan has it and waited for where its value is used; a send is waited
// for some sends later. Between two stages on one rank the value is handed over. A microbatch's
// backward frees whatever it needed; with a split backward, W frees what it needed itself.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/comm/process_group.h"
#include "parallel/pipeline/communication.h"
#include "parallel/pipeline/weight_gradients.h"

namespace tessera::pipeline {

// The number of sends that may be under way at once. More would keep more gradients alive; the
// plan's order runs even if each send waits for its receiver.
inline constexpr size_t kSendsUnderWay = 4;

struct RuntimeStage {
  // The stage's output for a microbatch, attached to the graph of its input: hidden states of the
  // microbatch's activation shape, or, on the last stage, the scalar loss. `input` is the output of
  // the stage before, or one of first_inputs.
  std::function<at::Tensor(const at::Tensor& input, int64_t microbatch)> forward = {};

  // Takes the weight gradients that the stage's linear layers put off. Plans with I and W need it;
  // it must outlive the runtime.
  WeightGradients* weight_gradients = nullptr;

  // Called when the gradients of all microbatches are there. May be empty.
  std::function<void()> reduce_gradients = {};
};

// The inputs of one pass of all microbatches. Vectors are by microbatch.
struct PipelineInputs {
  std::vector<at::Tensor> first_inputs = {};  // of the first stage (token ids); unused elsewhere
  std::vector<std::vector<int64_t>> activation_shapes = {};  // between stages
  at::TensorOptions activation_options = {};                 // dtype and device
  double loss_gradient = 1.0;                                // of every microbatch's loss
  bool is_last = true;  // no other pass adds to these gradients: reduce_gradients is called
};

// A computation and when it ran, in seconds; waiting for its inputs is not part of it.
struct ActionTime {
  Action action = {};
  double start_s = 0;  // since run() began
  double end_s = 0;
};

class PipelineRuntime {
 public:
  // `group` has the plan's ranks in order, `stages` the stages of this rank in the order of
  // placement.stages_of(rank). Throws c10::Error when their number, the group's size or missing
  // weight_gradients do not fit the plan.
  PipelineRuntime(ExecutionPlan plan, const ProcessGroup& group, std::vector<RuntimeStage> stages);

  // Forward and backward of all microbatches, on all ranks of the group together. Returns the
  // losses, detached, where the last stage is, else nothing. Throws c10::Error for inputs that do
  // not fit the plan and for a stage's output of another shape or dtype than expected, CommError
  // when another rank is lost, and whatever a stage throws. An exception drops the weight gradients
  // that were put off.
  std::vector<at::Tensor> run(const PipelineInputs& inputs);

  // Has every run() that follows append its computations to `times`, in order; null ends it. The
  // vector must outlive those runs.
  void record_times(std::vector<ActionTime>* times) { times_ = times; }

  const StagePlacement& placement() const { return plan_.placement; }
  int64_t num_microbatches() const { return plan_.num_microbatches; }

 private:
  class Replay;
  void check_inputs(const PipelineInputs& inputs) const;
  bool has_stage(int64_t stage) const;

  ExecutionPlan plan_;
  ProcessGroup group_;
  std::vector<RuntimeStage> stages_;
  std::vector<ActionTime>* times_ = nullptr;
};

}  // namespace tessera::pipeline
