// Times of attention backends, forward and backward, one JSON object per pass on stdout. Run by
// scripts/bench/attention.
//
//   bench_attention BACKEND DTYPE THREADS TOKENS DIM KV_HEADS MASK ROUNDS|memory [LENGTH,...]
//
// MASK is causal, doc or docwindow1024; documents have the lengths given. With `memory` instead of
// the number of rounds the program runs one forward and backward and tells how far the process
// grows during it. One thread is timed by processor time, more by wall time. The peak is that of a
// matrix product of 2048^3 in the same run.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include <ctime>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "attention/registry/registry.h"

namespace {

using nlohmann::json;

double now(int threads) {
  timespec time{};
  clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

at::Tensor document_ids(const std::vector<int64_t>& lengths, int64_t tokens) {
  at::Tensor ids_T = at::empty({tokens}, at::kLong);
  int64_t* ids = ids_T.mutable_data_ptr<int64_t>();
  int64_t id = 0;
  for (const int64_t length : lengths) {
    ids = std::fill_n(ids, length, id++);
  }
  return ids_T;
}

tessera::MaskMod rule_of(const std::string& mask, const at::Tensor& ids_T) {
  tessera::MaskMod rule = tessera::causal();
  if (mask.starts_with("doc")) rule = rule & tessera::document(ids_T);
  if (mask.ends_with("window1024")) rule = rule & tessera::sliding_window({.left = 1023});
  return rule;
}

std::vector<int64_t> read_lengths(const char* text) {
  std::vector<int64_t> lengths;
  std::stringstream stream(text);
  for (std::string word; std::getline(stream, word, ',');) lengths.push_back(std::stoll(word));
  return lengths;
}

// The best GFLOP/s of a matrix product, measured again before every round.
class Peak {
 public:
  Peak(at::ScalarType dtype, int threads)
      : threads_(threads), a_(at::randn({kSize, kSize}).to(dtype)), b_(a_.clone()) {}

  void probe() {
    const double start = now(threads_);
    at::mm(a_, b_);
    best_ = std::max(best_, 2e-9 * kSize * kSize * kSize / (now(threads_) - start));
  }

  double best() const { return best_; }

 private:
  static constexpr int64_t kSize = 2048;
  int threads_;
  at::Tensor a_;
  at::Tensor b_;
  double best_ = 0;
};

void report(const std::string& name, const json& common, double seconds, double flops,
            double peak) {
  json record = {{"name", name}};
  record.update(common);
  record["seconds_best"] = seconds;
  record["gflops_effective"] = flops / seconds / 1e9;
  record["peak_gflops_same_run"] = peak;
  record["ratio_to_peak"] = flops / seconds / 1e9 / peak;
  std::cout << record.dump() << std::endl;
}

// The value of a line of /proc/self/status, in bytes: VmHWM is the most that was ever resident.
int64_t status_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return 0;
}

// How far the resident memory rises above where it is while `work` runs.
template <typename Work>
int64_t growth_of(Work work) {
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts anew
  const int64_t before = status_bytes("VmRSS");
  work();
  return status_bytes("VmHWM") - before;
}

int run(int argc, char** argv) {
  if (argc < 9) {
    std::cerr << "usage: bench_attention BACKEND DTYPE THREADS TOKENS DIM KV_HEADS MASK "
                 "ROUNDS|memory [LENGTH,...]\n";
    return 2;
  }
  const std::string backend = argv[1];
  const at::ScalarType dtype = std::string(argv[2]) == "fp32" ? at::kFloat : at::kBFloat16;
  const int threads = std::stoi(argv[3]);
  const int64_t tokens = std::stoll(argv[4]);
  const int64_t dim = std::stoll(argv[5]);
  const int64_t kv_heads = std::stoll(argv[6]);
  const std::string mask_name = argv[7];
  const bool memory = std::string(argv[8]) == "memory";
  const int rounds = memory ? 0 : std::stoi(argv[8]);
  constexpr int64_t kHeads = 8;
  at::set_num_threads(threads);

  const std::vector<int64_t> lengths =
      argc > 9 ? read_lengths(argv[9]) : std::vector<int64_t>{tokens};
  const tessera::BlockMask mask = create_block_mask(
      rule_of(mask_name, document_ids(lengths, tokens)), {.q_len = tokens, .kv_len = tokens});
  const auto input = [&](int64_t heads) {
    return at::randn({1, tokens, heads, dim}).to(dtype).requires_grad_();
  };
  const at::Tensor q = input(kHeads);
  const at::Tensor k = input(kv_heads);
  const at::Tensor v = input(kv_heads);
  const at::Tensor d_out = at::randn({1, tokens, kHeads, dim}).to(dtype);
  const tessera::AttentionOp attend = tessera::AttentionRegistry::with_builtins().make(backend);

  const json common = {{"backend", backend}, {"shape", {1, kHeads, kv_heads, tokens, dim}},
                       {"dtype", argv[2]},   {"threads", threads},
                       {"mask", mask_name},  {"pairs", mask.num_pairs()}};
  if (memory) {
    json record = {{"name", "attention_memory"}};
    record.update(common);
    record["peak_extra_bytes"] = growth_of([&] {
      torch::autograd::grad({attend(q, k, v, mask).out_BTHE}, {q, k, v}, {d_out});
    });
    record["input_bytes"] = (2 * q.numel() + 2 * k.numel()) * q.element_size();
    std::cout << record.dump() << std::endl;
    return 0;
  }

  Peak peak(dtype, threads);
  double forward = 1e9;
  double backward = 1e9;
  for (int round = 0; round < rounds; ++round) {
    peak.probe();
    const double start = now(threads);
    const at::Tensor out = attend(q, k, v, mask).out_BTHE;
    const double middle = now(threads);
    torch::autograd::grad({out}, {q, k, v}, {d_out});
    const double end = now(threads);
    forward = std::min(forward, middle - start);
    backward = std::min(backward, end - middle);
  }
  const double work = 2.0 * static_cast<double>(dim * mask.num_pairs() * kHeads);
  report("attention_fwd", common, forward, 2 * work, peak.best());
  report("attention_bwd", common, backward, 5 * work, peak.best());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
