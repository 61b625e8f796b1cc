#include "trainer/estimate/estimate_context.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "parallel/context/plan/block_work.h"
#include "parallel/context/plan/context_traffic.h"
#include "parallel/context/plan/head_exchange.h"
#include "trainer/estimate/estimate_parts.h"

namespace tessera {
namespace {

using Lengths = std::vector<int64_t>;

constexpr LoadBalancer kBalancers[] = {LoadBalancer::kContiguous, LoadBalancer::kHeadTail,
                                       LoadBalancer::kDocumentHeadTail, LoadBalancer::kRoundRobin,
                                       LoadBalancer::kMinHeap};
constexpr ContextMethod kMethods[] = {ContextMethod::kAllGather, ContextMethod::kRing,
                                      ContextMethod::kAllToAll, ContextMethod::kNeededKv};

// Microbatches whose rows have equal documents, listed once.
struct Microbatch {
  std::vector<Lengths> rows;
  int64_t count = 0;  // in a step
};

// The microbatches of this rank's step. Row r of the step is row r of the documents, counted from
// the front again.
std::vector<Microbatch> microbatches_of(const PlannedJob& job, const DocumentRows& documents) {
  const DocumentRows given =
      documents.rows.empty() ? one_document_a_row(job.config.training.seq_len) : documents;
  for (const Lengths& row : given.rows) {
    const int64_t total = std::accumulate(row.begin(), row.end(), int64_t{0});
    TORCH_CHECK(total == job.config.training.seq_len, "documents: got a row of ", total,
                " tokens, expected training.seq_len = ", job.config.training.seq_len);
  }
  const auto num_given = static_cast<int64_t>(given.rows.size());
  const int64_t local_rows = job.config.training.local_batch_size;
  std::map<std::vector<int64_t>, int64_t> counts;  // by places in given.rows
  for (int64_t pass = 0; pass < job.layout.num_microbatches; ++pass) {
    const int64_t first = (pass * job.layout.num_data_ranks + job.mesh.batch_index()) * local_rows;
    for (int64_t begin = 0; begin < local_rows; begin += job.rows()) {
      std::vector<int64_t> places;
      for (int64_t row = 0; row < job.rows(); ++row) {
        places.push_back((first + begin + row) % num_given);
      }
      ++counts[places];
    }
  }
  std::vector<Microbatch> microbatches;
  for (const auto& [places, count] : counts) {
    Microbatch& microbatch = microbatches.emplace_back();
    microbatch.count = count;
    for (const int64_t place : places) {
      microbatch.rows.push_back(given.rows[static_cast<size_t>(place)]);
    }
  }
  return microbatches;
}

// A microbatch's masks, of whole rows, and who has which part of them.
struct SharedMasks {
  AttentionMasks masks;
  ShardPlan plan;
  ContextMethod method;
};

SharedMasks share_as(const PlannedJob& job, const ContextParallel& context,
                     const Microbatch& microbatch) {
  const Batch batch = batch_of_documents(microbatch.rows);
  const AttentionMasks masks = job.stages.front().model->get_attention_masks(
      context.tiles_to_share(job.create_mask_fn, batch), batch, *job.tokenizer, batch.extras);
  const AttentionMasks mine = context.share({batch, masks}).masks.of_rows();
  const ContextShard& shard = context_shard(mine.at(mine.names().front()));
  return {masks.of_rows(), shard.plan(), shard.method()};
}

KvSizes sizes_of(const PlannedJob& job) {
  const Llama3Config& llama = job.llama();
  return {.batch = job.rows(),
          .kv_heads = llama.n_kv_heads / job.layout.dims.tp,
          .key_dim = llama.head_dim,
          .value_dim = llama.head_dim,
          .element_size = job.compute_bytes()};
}

HeadExchange heads_of(const PlannedJob& job) {
  const int64_t tp = job.layout.dims.tp;
  return {job.llama().n_heads / tp, job.llama().n_kv_heads / tp, job.layout.dims.cp};
}

// Bytes that one microbatch sends, by rank. A rank sends as much by all-to-all as it receives,
// forward and backward.
std::vector<int64_t> sent_by_rank(const PlannedJob& job, const SharedMasks& shared,
                                  ContextMethod method) {
  const auto num_ranks = static_cast<size_t>(job.layout.dims.cp);
  const KvSizes sizes = sizes_of(job);
  std::vector<int64_t> sent(num_ranks, 0);
  for (const auto& [name, calls] : job.attention_calls()) {
    if (method == ContextMethod::kAllToAll) {
      const int64_t once = heads_of(job).received_bytes(shared.plan, sizes);
      for (int64_t& bytes : sent) bytes += (calls.forwards + calls.layers) * once;
      continue;
    }
    const KvMoves moves = kv_moves(shared.masks.at(name), shared.plan, method);
    for (size_t rank = 0; rank < num_ranks; ++rank) {
      sent[rank] +=
          kv_bytes(calls.forwards * moves.sent[rank] + calls.layers * moves.received[rank],
                   shared.plan, sizes);
    }
  }
  return sent;
}

// Raises `use` to what this rank's layers keep of a microbatch.
void add_kept(const PlannedJob& job, const SharedMasks& shared, ContextUse& use) {
  const ShardPlan& plan = shared.plan;
  if (shared.method == ContextMethod::kAllToAll) {
    const int64_t kv_heads = job.llama().n_kv_heads / job.layout.dims.tp;
    use.key_tokens = job.rows() * plan.seq_len() * heads_of(job).kv_heads_per_rank() / kv_heads;
    use.num_outputs = 2;  // for all tokens and a part of the heads, and the other way round
    return;
  }
  const auto rank = static_cast<size_t>(job.mesh.cp().rank());
  for (const std::string& name : shared.masks.names()) {
    const int64_t received = kv_moves(shared.masks.at(name), plan, shared.method).received[rank];
    use.key_tokens = std::max(use.key_tokens,
                              job.rows() * plan.block_size() * (plan.blocks_per_rank() + received));
    if (shared.method != ContextMethod::kRing) continue;
    // The ring keeps the output of each step, and the sum after each step but the first.
    use.num_outputs = std::max(use.num_outputs, 1 + 2 * (received / plan.blocks_per_rank()));
  }
}

void add_to(std::vector<int64_t>& sums, const std::vector<int64_t>& addends, int64_t times) {
  for (size_t i = 0; i < sums.size(); ++i) sums[i] += times * addends[i];
}

MethodTraffic traffic_of(const PlannedJob& job, const std::vector<Microbatch>& microbatches,
                         const std::vector<SharedMasks>& shared, ContextMethod method) {
  MethodTraffic traffic{.method = to_string(method)};
  std::vector<int64_t> sent(static_cast<size_t>(job.layout.dims.cp), 0);
  try {
    for (size_t i = 0; i < shared.size(); ++i) {
      add_to(sent, sent_by_rank(job, shared[i], method), microbatches[i].count);
    }
  } catch (const c10::Error& error) {
    traffic.refusal = error.what_without_backtrace();
    return traffic;
  }
  traffic.mean = std::accumulate(sent.begin(), sent.end(), int64_t{0}) / job.layout.dims.cp;
  traffic.most = *std::max_element(sent.begin(), sent.end());
  return traffic;
}

BalancerCosts costs_of(const PlannedJob& job, const std::vector<Microbatch>& microbatches,
                       LoadBalancer balancer) {
  BalancerCosts costs{.balancer = to_string(balancer)};
  const ContextParallel context(job.mesh.cp(), balancer, ContextMethod::kAllToAll, job.weights);
  std::vector<SharedMasks> shared;
  try {
    for (const Microbatch& microbatch : microbatches) {
      shared.push_back(share_as(job, context, microbatch));
    }
  } catch (const c10::Error& error) {
    costs.refusal = error.what_without_backtrace();
    return costs;
  }
  for (size_t i = 0; i < shared.size(); ++i) {
    const ShardPlan& plan = shared[i].plan;
    const double slowest =
        imbalance(plan, block_work(shared[i].masks, plan.block_size(), job.weights));
    costs.mean_imbalance += slowest * static_cast<double>(microbatches[i].count) /
                            static_cast<double>(job.num_microbatches());
    costs.worst_imbalance = std::max(costs.worst_imbalance, slowest);
  }
  for (const ContextMethod method : kMethods) {
    costs.methods.push_back(traffic_of(job, microbatches, shared, method));
  }
  return costs;
}

}  // namespace

ContextUse context_use(const PlannedJob& job, const DocumentRows& documents) {
  ContextUse use;
  if (job.layout.dims.cp == 1) return use;
  use.sent.assign(static_cast<size_t>(job.layout.dims.cp), 0);
  const ContextParallel context = context_parallel(job.config, job.mesh, job.weights);
  for (const Microbatch& microbatch : microbatches_of(job, documents)) {
    const SharedMasks shared = share_as(job, context, microbatch);
    add_to(use.sent, sent_by_rank(job, shared, shared.method), microbatch.count);
    add_kept(job, shared, use);
  }
  return use;
}

ContextEstimate context_estimate(const PlannedJob& job, const DocumentRows& documents) {
  const std::vector<Microbatch> microbatches = microbatches_of(job, documents);
  const std::string method = to_string(
      share_as(job, context_parallel(job.config, job.mesh, job.weights), microbatches.front())
          .method);
  const std::string balancer = to_string(
      load_balancer(job.config.parallelism.context_parallel_load_balancer.value_or("contiguous")));
  ContextEstimate result{.num_ranks = job.layout.dims.cp,
                         .num_rows = static_cast<int64_t>(documents.rows.size()),
                         .documents = documents.source};
  for (const LoadBalancer candidate : kBalancers) {
    BalancerCosts& costs = result.balancers.emplace_back(costs_of(job, microbatches, candidate));
    costs.is_configured = costs.balancer == balancer;
    for (MethodTraffic& traffic : costs.methods) traffic.is_configured = traffic.method == method;
  }
  return result;
}

}  // namespace tessera
