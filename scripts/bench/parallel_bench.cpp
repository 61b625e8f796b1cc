// One rank of a benchmark of collectives; scripts/bench/parallel starts all of them. Rank 0 prints
// one JSON object per case: seconds of the slowest rank, best and median.
//
//   bench_parallel RANK SIZE PORT ROUNDS
#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "parallel/comm/world.h"

namespace {

using Clock = std::chrono::steady_clock;
using tessera::ProcessGroup;
using tessera::ReduceOp;

struct Case {
  const char* name;
  double sent_share;  // of the whole buffer that each rank must send, times size / (size - 1)
  std::function<void()> run;
};

std::vector<Case> cases_of(const ProcessGroup& group, int64_t num_bytes) {
  const int64_t part_numel = num_bytes / 4 / group.size();
  const at::Tensor whole = at::ones({group.size() * part_numel});
  const at::Tensor part = at::ones({part_numel}), sum = at::zeros({part_numel});
  return {
      {"all_reduce", 2, [=] { group.all_reduce(whole).wait(); }},
      {"all_gather", 1, [=] { group.all_gather({whole}, {part}).wait(); }},
      {"reduce_scatter", 1, [=] { group.reduce_scatter_add({sum}, {whole}).wait(); }},
  };
}

// The seconds of the slowest rank in each round but the first, ascending.
std::vector<double> time_rounds(const ProcessGroup& group, const Case& c, int64_t num_rounds) {
  std::vector<double> seconds;
  for (int64_t round = 0; round <= num_rounds; ++round) {
    group.barrier();
    const Clock::time_point start = Clock::now();
    c.run();
    const at::Tensor spent =
        at::full({1}, std::chrono::duration<double>(Clock::now() - start).count(), at::kDouble);
    group.all_reduce(spent, ReduceOp::kMax).wait();
    if (round > 0) seconds.push_back(spent.item<double>());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: bench_parallel RANK SIZE PORT ROUNDS\n";
    return 2;
  }
  at::set_num_threads(1);
  const tessera::World world = tessera::World::connect(
      {.rank = std::stoll(argv[1]), .size = std::stoll(argv[2]), .port = std::stoll(argv[3])});
  const ProcessGroup group = world.all();
  const auto size = static_cast<double>(group.size());
  for (const int64_t megabytes : {1, 16, 64}) {
    const int64_t num_bytes = megabytes << 20;
    for (const Case& c : cases_of(group, num_bytes)) {
      const std::vector<double> seconds = time_rounds(group, c, std::stoll(argv[4]));
      if (group.rank() != 0) continue;
      const double sent = c.sent_share * static_cast<double>(num_bytes) * (size - 1) / size;
      const double median = seconds[seconds.size() / 2];
      std::cout << nlohmann::json{{"name", c.name},
                                  {"ranks", group.size()},
                                  {"megabytes", megabytes},
                                  {"bus_gb_s_best", sent / seconds.front() / 1e9},
                                  {"bus_gb_s_median", sent / median / 1e9}}
                << std::endl;
    }
  }
  group.barrier();
  return 0;
}
