// Shape legend: as in attention.h, T and S the tokens of one rank; N, M, X as in kv_transport.h.
#include "parallel/context/context_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>

#include <limits>
#include <memory>

#include "attention/op/autograd.h"
#include "attention/op/merge.h"
#include "parallel/comm/collectives.h"
#include "parallel/context/kv_transport.h"
#include "parallel/context/plan/head_exchange.h"

namespace tessera {

namespace {

using at::Tensor;

// One call of the operator that exchanges keys. Between forward and backward it holds the graphs:
// one for each step, from the leaves q, k and v to the step's result, and one that merges the
// results.
struct KvCall {
  KvCall(const AttentionOp& inner_op, const ProcessGroup& ranks, const BlockMask& sharded_mask,
         AttentionOptions inner_options, at::ScalarType dtype)
      : inner(inner_op),
        mask(sharded_mask),
        shard(context_shard(mask)),
        transport(shard, ranks, dtype),
        options(std::move(inner_options)) {}

  struct Step {
    Tensor k_BSKD{};  // leaves; undefined in a step without a mask, as everything here
    Tensor v_BSKE{};
    AttentionOutput output{};
    AttentionOutput leaf{};  // the same values, where the merging graph begins
  };

  const AttentionOp& inner;
  BlockMask mask;  // keeps the shard alive
  const ContextShard& shard;
  KvTransport transport;
  AttentionOptions options;
  Tensor q_BTHD{};  // leaf
  std::vector<int64_t> k_sizes{};
  std::vector<int64_t> v_sizes{};
  std::vector<Step> steps{};
  AttentionOutput merged{};

  int64_t block_size() const { return shard.plan().block_size(); }
};

Tensor leaf_like(const Tensor& x, const Tensor& original) {
  return x.detach().set_requires_grad(original.requires_grad() && at::GradMode::is_enabled());
}

void attend_step(KvCall& call, size_t step, const Tensor& rows_MX, const Tensor& k_BSKD,
                 const Tensor& v_BSKE) {
  KvCall::Step& state = call.steps[step];
  const std::optional<BlockMask>& mask = call.shard.steps()[step].mask;
  if (!mask) return;
  const auto [k, v] = from_block_rows(rows_MX, k_BSKD.sizes(), v_BSKE.sizes(), call.block_size());
  state.k_BSKD = leaf_like(k, k_BSKD);
  state.v_BSKE = leaf_like(v, v_BSKE);
  state.output = call.inner(call.q_BTHD, state.k_BSKD, state.v_BSKE, *mask, call.options);
}

// The output of a rank whose rows see no key at all.
AttentionOutput empty_output(const Tensor& q_BTHD, const Tensor& v_BSKE) {
  const at::ScalarType lse_type = q_BTHD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return {.out_BTHE = at::zeros({q_BTHD.size(0), q_BTHD.size(1), q_BTHD.size(2), v_BSKE.size(3)},
                                q_BTHD.options()),
          .lse_BHT = at::zeros({q_BTHD.size(0), q_BTHD.size(2), q_BTHD.size(1)},
                               q_BTHD.options().dtype(lse_type))
                         .fill_(-std::numeric_limits<double>::infinity())};
}

void merge_steps(KvCall& call, const Tensor& v_BSKE) {
  if (call.steps.size() == 1) {
    call.merged = call.steps.front().output;  // its graph is the whole graph
    return;
  }
  for (KvCall::Step& state : call.steps) {
    if (!state.output.out_BTHE.defined()) continue;
    state.leaf = {.out_BTHE = leaf_like(state.output.out_BTHE, state.output.out_BTHE),
                  .lse_BHT = leaf_like(state.output.lse_BHT, state.output.lse_BHT)};
    call.merged = call.merged.out_BTHE.defined() ? merge(call.merged, state.leaf) : state.leaf;
  }
  if (!call.merged.out_BTHE.defined()) call.merged = empty_output(call.q_BTHD, v_BSKE);
}

// Runs all steps in the caller's grad mode: with it on, the inner graphs are recorded.
void run_forward(KvCall& call, const Tensor& q_BTHD, const Tensor& k_BSKD, const Tensor& v_BSKE) {
  call.q_BTHD = leaf_like(q_BTHD, q_BTHD);
  call.k_sizes = k_BSKD.sizes().vec();
  call.v_sizes = v_BSKE.sizes().vec();
  const size_t num_steps = call.shard.steps().size();
  call.steps.resize(num_steps);
  const Tensor own_NX = to_block_rows(k_BSKD.detach(), v_BSKE.detach(), call.block_size());
  KvTransport::Pending next = call.transport.fetch(0, own_NX);
  for (size_t step = 0; step < num_steps; ++step) {
    const Tensor rows_MX = next.finish();
    if (step + 1 < num_steps) next = call.transport.fetch(step + 1, own_NX);
    attend_step(call, step, rows_MX, k_BSKD, v_BSKE);
  }
  merge_steps(call, v_BSKE);
}

Tensors outputs_of(const AttentionOutput& output) {
  return output.lse_BHT.defined() ? Tensors{output.out_BTHE, output.lse_BHT}
                                  : Tensors{output.out_BTHE};
}

// Runs an inner graph backward from those outputs that need it.
void backward(const AttentionOutput& output, const Tensors& grads) {
  Tensors roots;
  Tensors root_grads;
  const Tensors outputs = outputs_of(output);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].requires_grad() || !grads[i].defined()) continue;
    roots.push_back(outputs[i]);
    root_grads.push_back(grads[i]);
  }
  if (!roots.empty()) run_backward(roots, root_grads);
}

// Gradients of the keys and values of one step as rows; zeros where the graph gave none.
Tensor grad_rows(const KvCall::Step& state, int64_t block_size) {
  if (!state.k_BSKD.defined()) return {};
  const auto grad = [](const Tensor& leaf) {
    return leaf.grad().defined() ? leaf.grad() : at::zeros(leaf.sizes(), leaf.options());
  };
  return to_block_rows(grad(state.k_BSKD), grad(state.v_BSKE), block_size);
}

void backward_step(KvCall& call, size_t step) {
  KvCall::Step& state = call.steps[step];
  if (!state.leaf.out_BTHE.defined()) return;
  backward(state.output, {state.leaf.out_BTHE.grad(), state.leaf.lse_BHT.grad()});
  state.output = {};
  state.leaf = {};
}

// Runs all steps backward. Every rank takes part in every step's return, whatever it computed
// itself.
Tensors backward_of(KvCall& call, const Tensors& grad_outputs) {
  const Tensor q_BTHD = std::exchange(call.q_BTHD, Tensor());
  backward(std::exchange(call.merged, {}), grad_outputs);
  const at::ScalarType sum_type = q_BTHD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const int64_t num_own = call.shard.plan().blocks_per_rank();
  const int64_t row_size =
      (c10::multiply_integers(call.k_sizes) + c10::multiply_integers(call.v_sizes)) / num_own;
  const Tensor total_NX = at::zeros({num_own, row_size}, q_BTHD.options().dtype(sum_type));
  KvTransport::Pending last;
  for (size_t step = 0; step < call.steps.size(); ++step) {
    backward_step(call, step);
    const Tensor grad_MX = grad_rows(call.steps[step], call.block_size());
    call.steps[step] = {};
    if (step > 0) last.finish();
    last = call.transport.give_back(step, grad_MX, total_NX);
  }
  last.finish();
  const auto [dk, dv] = from_block_rows(total_NX.to(q_BTHD.scalar_type()), call.k_sizes,
                                        call.v_sizes, call.block_size());
  const Tensor dq =
      q_BTHD.grad().defined() ? q_BTHD.grad() : at::zeros(q_BTHD.sizes(), q_BTHD.options());
  return {dq, dk, dv};
}

Forwarded record_forward(KvCall& call, const Tensor& q_BTHD, const Tensor& k_BSKD,
                         const Tensor& v_BSKE) {
  {
    const at::AutoGradMode with_graphs(true);
    run_forward(call, q_BTHD, k_BSKD, v_BSKE);
  }
  Tensors outputs = outputs_of(call.merged);
  for (Tensor& output : outputs) output = output.detach();
  return {.outputs = std::move(outputs)};
}

AttentionOutput attend_keys(const AttentionOp& inner, const ProcessGroup& group,
                            const Tensor& q_BTHD, const Tensor& k_BSKD, const Tensor& v_BSKE,
                            const BlockMask& mask, AttentionOptions options) {
  options.return_lse = options.return_lse || context_shard(mask).steps().size() > 1;
  const auto call =
      std::make_shared<KvCall>(inner, group, mask, std::move(options), k_BSKD.scalar_type());
  const bool needs_grad =
      q_BTHD.requires_grad() || k_BSKD.requires_grad() || v_BSKE.requires_grad();
  if (!at::GradMode::is_enabled() || !needs_grad) {
    run_forward(*call, q_BTHD, k_BSKD, v_BSKE);
    return call->merged;
  }
  const Tensors outputs = record(
      {q_BTHD, k_BSKD, v_BSKE}, [&] { return record_forward(*call, q_BTHD, k_BSKD, v_BSKE); },
      [call](const BackwardCall& step) {
        TORCH_CHECK(call->q_BTHD.defined(),
                    "context attention: backward of this call ran before, and it runs once");
        return backward_of(*call, step.gradients);
      });
  return {.out_BTHE = outputs[0], .lse_BHT = outputs.size() > 1 ? outputs[1] : Tensor()};
}

// Heads of x that each rank computes, in rank order, so that they divide evenly.
Tensor repeat_heads(const Tensor& x_BSKD, const HeadExchange& heads) {
  if (x_BSKD.size(2) % heads.num_ranks() == 0) return x_BSKD;
  std::vector<int64_t> of_rank;
  for (int64_t rank = 0; rank < heads.num_ranks(); ++rank) {
    of_rank.push_back(heads.kv(rank).begin);
  }
  return x_BSKD.index_select(2, at::tensor(of_rank, at::kLong).to(x_BSKD.device()));
}

AttentionOutput attend_heads(const AttentionOp& inner, const ProcessGroup& group,
                             const Tensor& q_BTHD, const Tensor& k_BSKD, const Tensor& v_BSKE,
                             const BlockMask& mask, const AttentionOptions& options) {
  TORCH_CHECK(mask.shape().heads == 1, "context attention: mask heads: got ", mask.shape().heads,
              ", expected 1 for all_to_all, which shares heads among the ranks");
  const ShardPlan& plan = context_shard(mask).plan();
  const HeadExchange heads(q_BTHD.size(2), k_BSKD.size(2), plan.num_ranks());
  const Tensor places_T = plan.inverse_token_order().to(q_BTHD.device());
  const auto all_tokens = [&](const Tensor& x_BTHD) {
    return exchange_dims(x_BTHD, /*split_dim=*/2, /*concat_dim=*/1, group)
        .index_select(1, places_T);
  };
  const AttentionOutput output =
      inner(all_tokens(q_BTHD), all_tokens(repeat_heads(k_BSKD, heads)),
            all_tokens(repeat_heads(v_BSKE, heads)), mask.with_plan(nullptr), options);
  const Tensor order_T = plan.token_order().to(q_BTHD.device());
  AttentionOutput mine{.out_BTHE =
                           exchange_dims(output.out_BTHE.index_select(1, order_T), 1, 2, group)};
  if (options.return_lse) {
    mine.lse_BHT = exchange_dims(output.lse_BHT.index_select(2, order_T), 2, 1, group);
  }
  return mine;
}

void check_call(const ContextShard& shard, const ProcessGroup& group, const Tensor& q_BTHD,
                const Tensor& k_BSKD, const AttentionOptions& options) {
  const ShardPlan& plan = shard.plan();
  TORCH_CHECK(group.size() == plan.num_ranks() && group.rank() == shard.rank(),
              "context attention: group \"", group.name(), "\": got rank ", group.rank(), " of ",
              group.size(), ", expected that of the mask, ", shard.to_string());
  TORCH_CHECK(q_BTHD.size(1) == plan.tokens_per_rank() && k_BSKD.size(1) == plan.tokens_per_rank(),
              "context attention: got q ", q_BTHD.sizes(), " and k ", k_BSKD.sizes(),
              ", expected lengths of ", plan.tokens_per_rank(), " (", plan.to_string(), ")");
  const auto refuse = [](const char* name, bool wanted, const char* reason) {
    TORCH_CHECK(!wanted, "context attention: options.", name, ": not supported: ", reason);
  };
  refuse("bias_BHTS", options.bias_BHTS.defined(), "each rank sees a part of its rows and keys");
  refuse("alibi_slopes_H", options.alibi_slopes_H.defined(),
         "its distances are those of the whole sequence");
  refuse("return_weights", options.return_weights, "each rank sees a part of the keys at a time");
}

// A sink adds exp(sink) to the sum of a row once, whatever the number of steps.
void apply_sinks(const Tensor& sinks_H, AttentionOutput& output) {
  const Tensor& lse_BHT = output.lse_BHT;
  const Tensor share_BHT =
      at::sigmoid(lse_BHT - sinks_H.to(lse_BHT.scalar_type()).view({1, -1, 1}));
  const Tensor out =
      output.out_BTHE.to(lse_BHT.scalar_type()) * share_BHT.transpose(1, 2).unsqueeze(3);
  output.out_BTHE = out.to(output.out_BTHE.scalar_type());
}

}  // namespace

AttentionOp wrap_context_parallel(AttentionOp inner, ProcessGroup group) {
  std::string name = "context(" + inner.name() + ")";
  const auto attend = [inner = std::move(inner), group = std::move(group)](
                          const Tensor& q_BTHD, const Tensor& k_BSKD, const Tensor& v_BSKE,
                          const BlockMask& mask, const AttentionOptions& options) {
    const ContextShard& shard = context_shard(mask);
    check_call(shard, group, q_BTHD, k_BSKD, options);
    AttentionOptions inner_options = options;
    inner_options.sinks_H = Tensor();
    inner_options.return_lse = options.return_lse || options.sinks_H.defined();
    AttentionOutput output =
        shard.method() == ContextMethod::kAllToAll
            ? attend_heads(inner, group, q_BTHD, k_BSKD, v_BSKE, mask, inner_options)
            : attend_keys(inner, group, q_BTHD, k_BSKD, v_BSKE, mask, inner_options);
    if (options.sinks_H.defined()) apply_sinks(options.sinks_H, output);
    if (!options.return_lse) output.lse_BHT = Tensor();
    return output;
  };
  return {std::move(name), attend, ContextShard::kKind};
}

}  // namespace tessera
