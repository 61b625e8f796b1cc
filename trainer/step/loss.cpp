#include "trainer/step/loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_log_softmax.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include "attention/op/autograd.h"
#include "data/batch.h"

namespace tessera {
namespace {

at::ScalarType accumulation_dtype(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

// Turns log_p_NV, the log softmax of logits_NV over this rank's columns, into the log softmax over
// the columns of all ranks.
void normalize_over_ranks(const at::Tensor& log_p_NV, const at::Tensor& logits_NV,
                          const ProcessGroup& group) {
  if (group.size() == 1) return;
  const at::Tensor own_lse_N = logits_NV.select(1, 0) - log_p_NV.select(1, 0);
  const at::Tensor max_N = own_lse_N.clone();
  group.all_reduce(max_N, ReduceOp::kMax).wait();
  const at::Tensor sum_N = (own_lse_N - max_N).exp_();
  group.all_reduce(sum_N).wait();
  log_p_NV.add_((own_lse_N - max_N - sum_N.log_()).unsqueeze(1));
}

// The summed loss of one chunk on this rank, and d loss / d logits. N: tokens of the chunk, V:
// columns of this rank.
struct ChunkLoss {
  at::Tensor sum;
  at::Tensor d_logits_NV;  // undefined unless asked for
};

ChunkLoss chunk_loss(const at::Tensor& hidden_ND, const at::Tensor& weight_VD,
                     const at::Tensor& labels_N, const VocabularyPart& vocabulary,
                     bool with_gradient) {
  at::Tensor logits_NV = at::mm(hidden_ND, weight_VD.t());
  logits_NV = logits_NV.to(accumulation_dtype(logits_NV.scalar_type()));
  at::Tensor log_p_NV = at::_log_softmax(logits_NV, 1, false);
  normalize_over_ranks(log_p_NV, logits_NV, vocabulary.group);
  const at::Tensor ignored_N1 = labels_N.eq(kIgnoreLabel).unsqueeze(1);
  const at::Tensor elsewhere_N1 =
      labels_N.lt(vocabulary.rows.begin).logical_or_(labels_N.ge(vocabulary.rows.end)).unsqueeze(1);
  const at::Tensor index_N1 =
      labels_N.unsqueeze(1).sub(vocabulary.rows.begin).masked_fill_(elsewhere_N1, 0);

  ChunkLoss loss;
  loss.sum = log_p_NV.gather(1, index_N1).masked_fill_(elsewhere_N1, 0).sum().neg_();
  if (with_gradient) {
    at::Tensor p_NV = log_p_NV.exp_();
    p_NV.scatter_add_(1, index_N1, elsewhere_N1.to(p_NV.scalar_type()).sub_(1));
    loss.d_logits_NV = p_NV.masked_fill_(ignored_N1, 0).to(hidden_ND.scalar_type());
  }
  return loss;
}

// The gradients for a loss gradient of 1 are made along with the loss, and are kept.
Forwarded loss_and_gradients(const at::Tensor& hidden_ND, const at::Tensor& weight_VD,
                             const at::Tensor& labels_N, int64_t chunk_tokens,
                             const VocabularyPart& vocabulary, bool with_gradient) {
  const auto dtype = accumulation_dtype(hidden_ND.scalar_type());
  at::Tensor sum = at::zeros({}, hidden_ND.options().dtype(dtype));
  at::Tensor d_hidden_ND, d_weight_VD;
  if (with_gradient) {
    d_hidden_ND = at::empty_like(hidden_ND);
    d_weight_VD = at::zeros(weight_VD.sizes(), weight_VD.options().dtype(dtype));
  }
  for (int64_t begin = 0; begin < hidden_ND.size(0); begin += chunk_tokens) {
    const int64_t tokens = std::min(chunk_tokens, hidden_ND.size(0) - begin);
    const at::Tensor chunk_ND = hidden_ND.narrow(0, begin, tokens);
    const ChunkLoss loss = chunk_loss(chunk_ND, weight_VD, labels_N.narrow(0, begin, tokens),
                                      vocabulary, with_gradient);
    sum += loss.sum;
    if (with_gradient) {
      at::Tensor d_chunk_ND = d_hidden_ND.narrow(0, begin, tokens);
      at::mm_out(d_chunk_ND, loss.d_logits_NV, weight_VD);
      if (d_weight_VD.scalar_type() == chunk_ND.scalar_type()) {
        d_weight_VD.addmm_(loss.d_logits_NV.t(), chunk_ND);
      } else {
        d_weight_VD += at::mm(loss.d_logits_NV.t(), chunk_ND);
      }
    }
  }
  vocabulary.group.all_reduce(sum).wait();  // each label lies with one rank
  return {.outputs = {sum}, .saved = {d_hidden_ND, d_weight_VD}};
}

Tensors scaled_gradients(const BackwardCall& call) {
  // The product is made in place, as the weight's gradient is large; so autograd refuses a second
  // backward pass.
  const at::Tensor& d_sum = call.gradients[0];
  for (const at::Tensor& gradient : call.saved) gradient.mul_(d_sum.to(gradient.scalar_type()));
  return {call.saved[0], call.saved[1], at::Tensor()};
}

void check_inputs(const at::Tensor& hidden_BTD, const at::Tensor& weight_VD,
                  const at::Tensor& labels_BT, int64_t chunk_tokens) {
  TORCH_CHECK(
      hidden_BTD.dim() == 3 && weight_VD.dim() == 2 && hidden_BTD.size(2) == weight_VD.size(1),
      "cross_entropy_sum: hidden states ", hidden_BTD.sizes(), " and weight ", weight_VD.sizes(),
      " do not fit; expected [B, T, D] and [V, D]");
  TORCH_CHECK(
      labels_BT.scalar_type() == at::kLong && labels_BT.sizes() == hidden_BTD.sizes().slice(0, 2),
      "cross_entropy_sum: labels are ", labels_BT.scalar_type(), " ", labels_BT.sizes(),
      "; expected Long of shape ", hidden_BTD.sizes().slice(0, 2));
  TORCH_CHECK(chunk_tokens >= 1, "cross_entropy_sum: chunk_tokens is ", chunk_tokens,
              "; expected at least 1");
}

}  // namespace

int64_t loss_chunk_tokens(int64_t vocab_size) {
  constexpr int64_t kLogitsAtOnce = int64_t{1} << 20;
  constexpr int64_t kFewestTokens =
      256;  // fewer make the products with the head's weight inefficient
  return std::max(kFewestTokens, kLogitsAtOnce / std::max<int64_t>(vocab_size, 1));
}

at::Tensor cross_entropy_sum(const at::Tensor& hidden_BTD, const at::Tensor& weight_VD,
                             const at::Tensor& labels_BT, int64_t chunk_tokens,
                             const VocabularyPart& vocabulary) {
  check_inputs(hidden_BTD, weight_VD, labels_BT, chunk_tokens);
  TORCH_CHECK(weight_VD.size(0) == vocabulary.rows.size(), "cross_entropy_sum: weight is ",
              weight_VD.sizes(), "; expected ", vocabulary.rows.size(), " rows, ",
              vocabulary.rows.begin, " to ", vocabulary.rows.end, " of ", vocabulary.vocab_size);
  const at::Tensor labels_N = labels_BT.reshape({-1});
  const at::Tensor bad_N =
      labels_N.ne(kIgnoreLabel)
          .logical_and_(labels_N.lt(0).logical_or_(labels_N.ge(vocabulary.vocab_size)));
  TORCH_CHECK(!bad_N.any().item<bool>(), "cross_entropy_sum: label ",
              labels_N.masked_select(bad_N)[0].item<int64_t>(),
              " is outside the vocabulary; expected 0 to ", vocabulary.vocab_size - 1, " or ",
              kIgnoreLabel);
  const bool with_gradient =
      at::GradMode::is_enabled() && (hidden_BTD.requires_grad() || weight_VD.requires_grad());
  const at::Tensor hidden_ND = hidden_BTD.reshape({-1, hidden_BTD.size(2)});
  return record(
      {hidden_ND, weight_VD, labels_N},
      [&] {
        return loss_and_gradients(hidden_ND, weight_VD, labels_N, chunk_tokens, vocabulary,
                                  with_gradient);
      },
      scaled_gradients)[0];
}

at::Tensor cross_entropy_sum(const at::Tensor& hidden_BTD, const at::Tensor& weight_VD,
                             const at::Tensor& labels_BT, int64_t chunk_tokens) {
  const int64_t vocab_size = weight_VD.size(0);
  return cross_entropy_sum(hidden_BTD, weight_VD, labels_BT, chunk_tokens,
                           {.rows = {0, vocab_size}, .vocab_size = vocab_size});
}

}  // namespace tessera
