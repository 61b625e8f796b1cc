// What sharing the sequence costs under each load balancer and method of context parallelism, for
// rows of given documents: part of `tessera estimate`.
//
// Masks are the model's own, plans and exchanges those that the runtime would make
// (parallel/context/), for the microbatches of one step of the first data rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

// Keys, values and their gradients (all_to_all: queries and outputs as well) that a rank sends in a
// step, forward and backward, for the layers of the rank that is shown.
struct MethodTraffic {
  std::string method;
  bool is_configured = false;
  int64_t mean = 0;          // bytes, over the ranks that share the sequence
  int64_t most = 0;          // of the one that sends most
  std::string refusal = {};  // why the method cannot be used; then there are no figures
};

struct BalancerCosts {
  std::string balancer;
  bool is_configured = false;
  double mean_imbalance = 0;   // slowest rank's live pairs by the mean, over the microbatches
  double worst_imbalance = 0;  // of the worst microbatch
  std::vector<MethodTraffic> methods = {};
  std::string refusal = {};  // why these rows cannot be shared like that; then no figures
};

struct ContextEstimate {
  int64_t num_ranks = 1;
  int64_t num_rows = 0;        // of documents, as given
  std::string documents = {};  // the file; empty: each row is one document
  std::vector<BalancerCosts> balancers = {};
};

// The table, empty lines and marks included.
std::string context_text(const ContextEstimate& context);

}  // namespace tessera
