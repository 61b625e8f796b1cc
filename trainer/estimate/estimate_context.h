// What sharing the sequence costs under each load balancer and method of context parallelism, for
// rows of given documents: part of `tessera estimate`. estimate_job (estimate.h) fills these
// structs.
//
// Masks are the model's own; plans and exchanges are those that the runtime makes
// (parallel/context/). They are of the microbatches of one step of the first data rank.
//
// Internal to trainer/estimate/, but for Estimate::context.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

// What a rank sends by one method in a step, forward and backward, for the layers of the rank that
// is shown: keys, values and their gradients, by all_to_all queries and outputs as well. In bytes.
struct MethodTraffic {
  std::string method;
  bool is_configured = false;
  int64_t mean = 0;          // over the ranks that share the sequence
  int64_t most = 0;          // of the rank that sends most
  std::string refusal = {};  // why the method cannot be used; then there are no figures
};

// A way of balancing, with what it costs by each method.
struct BalancerCosts {
  std::string balancer;
  bool is_configured = false;
  double mean_imbalance = 0;   // busiest rank's live pairs by the ranks' mean; of all microbatches
  double worst_imbalance = 0;  // that ratio in the worst microbatch
  std::vector<MethodTraffic> methods = {};
  std::string refusal = {};  // why these rows cannot be shared like that; then no figures
};

struct ContextEstimate {
  int64_t num_ranks = 1;
  int64_t num_rows = 0;        // of documents, as given
  std::string documents = {};  // the file; empty: each row is one document
  std::vector<BalancerCosts> balancers = {};
};

// The table for people, empty lines and marks included.
std::string context_text(const ContextEstimate& context);

}  // namespace tessera
