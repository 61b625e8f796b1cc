#include "models/llama3/costs.h"

#include "parallel/comm/process_group.h"

namespace tessera {
namespace {

int64_t num_recomputed(const Llama3Config& config, const Llama3Step& step) {
  return step.recompute_every > 0 ? config.n_layers / step.recompute_every : 0;
}

struct Tokens {
  Tokens(const Llama3Step& step)
      : all(step.rows * step.seq_len),
        own(step.sequence_parallel ? all / step.tp : all),
        are_cut(step.sequence_parallel && step.tp > 1) {}
  int64_t all, own;
  bool are_cut;
};

}  // namespace

Llama3Activations llama3_activations(const Llama3Config& config, const Llama3Step& step) {
  const Tokens n(step);
  const int64_t e = step.activation_bytes, f = step.statistic_bytes, dim = config.dim;
  const int64_t heads = config.n_heads / step.tp, ffn = config.ffn_dim / step.tp;
  const int64_t q = heads * config.head_dim;
  const int64_t kv = config.n_kv_heads / step.tp * config.head_dim;

  Llama3Activations result;
  result.recomputed_layer = n.own * dim * e;
  result.layer = n.own * (2 * dim * e + 2 * f) +
                 n.all * ((2 * dim + 2 * q + 2 * kv + 4 * ffn) * e + heads * f);
  result.num_recomputed_layers = num_recomputed(config, step);
  const int64_t outside = n.own * (2 * dim * e + f) + (n.are_cut ? n.all * dim * e : 0);
  result.kept = outside + result.num_recomputed_layers * result.recomputed_layer +
                (config.n_layers - result.num_recomputed_layers) * result.layer;
  const bool recomputes = result.num_recomputed_layers > 0;
  result.backward =
      n.all * (2 * dim + 3 * ffn) * e + (recomputes ? result.layer - result.recomputed_layer : 0);
  return result;
}

Llama3TensorTraffic llama3_tensor_traffic(const Llama3Config& config, const Llama3Step& step) {
  Llama3TensorTraffic result;
  if (step.tp == 1) return result;
  const int64_t whole = step.rows * step.seq_len * config.dim * step.activation_bytes;
  // Each layer enters and leaves tensor parallelism twice, forward and backward; recomputing is a
  // forward more. The embedding leaves it, the head enters it.
  const int64_t layers = 2 * config.n_layers, again = 2 * num_recomputed(config, step);
  if (step.sequence_parallel) {
    const int64_t part = (step.tp - 1) * (whole / step.tp);  // gathered or scattered
    const int64_t enters = layers + again + 1, leaves = layers + again + 1;
    const int64_t enters_back = layers + 1, leaves_back = layers + 1;
    result.gather = (enters + leaves_back) * part;
    result.scatter = (leaves + enters_back) * part;
  } else {
    const int64_t leaves = layers + again + 1, enters_back = layers + 1;
    result.all_reduce = (leaves + enters_back) * all_reduce_sent(whole, step.tp);
  }
  return result;
}

std::vector<int64_t> llama3_block_uses(const Llama3Config& config) {
  std::vector<int64_t> uses;
  const int64_t num_untied = 1 + config.n_layers + 1;  // embedding, layers, norm
  for (int64_t block = 0; block < num_untied; ++block) uses.push_back(block);
  uses.push_back(config.tied_embeddings ? 0 : num_untied);
  return uses;
}

}  // namespace tessera
