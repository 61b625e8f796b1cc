#include "models/llama3/costs.h"

#include "parallel/comm/process_group.h"

namespace tessera {
namespace {

struct Tokens {
  explicit Tokens(const Llama3Step& step)
      : all(step.rows * step.seq_len),
        own(step.sequence_parallel ? all / step.tp : all),
        keys(step.key_tokens < 0 ? all : step.key_tokens),
        are_cut(step.sequence_parallel && step.tp > 1) {}
  int64_t all, own, keys;
  bool are_cut;
};

}  // namespace

Llama3Activations llama3_activations(const Llama3Config& config, const Llama3Stage& stage,
                                     const Llama3Step& step) {
  const Tokens n(step);
  const int64_t e = step.activation_bytes, f = step.statistic_bytes, dim = config.dim;
  const int64_t heads = config.n_heads / step.tp, ffn = config.ffn_dim / step.tp;
  const int64_t q = heads * config.head_dim;
  const int64_t kv = config.n_kv_heads / step.tp * config.head_dim;

  Llama3Activations result;
  result.recomputed_layer = n.own * dim * e;
  result.layer = n.own * (2 * dim * e + 2 * f) + n.all * (2 * dim + q + 4 * ffn) * e +
                 n.keys * 2 * kv * e + step.num_outputs * n.all * (q * e + heads * f);
  const int64_t head = n.own * (dim * e + f) + (n.are_cut ? n.all * dim * e : 0);
  result.kept = n.own * dim * e + (stage.head ? head : 0) +
                stage.num_recomputed * result.recomputed_layer +
                (stage.num_layers - stage.num_recomputed) * result.layer;
  if (stage.num_layers > 0) result.backward = n.all * (2 * dim + 3 * ffn) * e;
  if (stage.num_recomputed > 0) result.backward += result.layer - result.recomputed_layer;
  result.deferred = stage.num_layers * n.all * (4 * dim + 2 * q + 2 * kv + 3 * ffn) * e;
  return result;
}

Llama3TensorTraffic llama3_tensor_traffic(const Llama3Config& config, const Llama3Stage& stage,
                                          const Llama3Step& step) {
  Llama3TensorTraffic result;
  if (step.tp == 1) return result;
  const int64_t whole = step.rows * step.seq_len * config.dim * step.activation_bytes;
  // Each layer enters and leaves tensor parallelism twice, forward and backward; recomputing is a
  // forward more. The embedding leaves it, the head enters it.
  const int64_t layers = 2 * stage.num_layers, again = 2 * stage.num_recomputed;
  const int64_t head = stage.head ? 1 : 0, embedding = stage.embedding ? 1 : 0;
  const int64_t enters = layers + again + head, leaves = layers + again + embedding;
  const int64_t enters_back = layers + head, leaves_back = layers + embedding;
  if (step.sequence_parallel) {
    const int64_t own = (step.tp - 1) * (whole / step.tp);  // gathered or scattered
    result.gather = (enters + leaves_back) * own;
    result.scatter = (leaves + enters_back) * own;
  } else {
    result.all_reduce = (leaves + enters_back) * all_reduce_sent(whole, step.tp);
  }
  return result;
}

}  // namespace tessera
