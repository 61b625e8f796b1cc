// Times of building block masks, one JSON object per case on stdout. Run by scripts/bench/masks.
//
//   bench_masks DOCUMENT_LENGTHS.json
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "attention/block_mask/block_mask.h"
#include "attention/masks/mask_fn.h"

namespace {

using nlohmann::json;
using tessera::BlockMask;
using tessera::MaskMod;
using tessera::MaskShape;

// The document ids of one row of `tokens` tokens: the lengths over and over, the last one cut.
at::Tensor document_ids(const std::vector<int64_t>& lengths, int64_t tokens) {
  at::Tensor ids_T = at::empty({tokens}, at::kLong);
  int64_t* ids = ids_T.mutable_data_ptr<int64_t>();
  int64_t at = 0;
  for (int64_t id = 0; at < tokens; ++id) {
    const int64_t end = std::min(at + lengths[id % lengths.size()], tokens);
    std::fill(ids + at, ids + end, id);
    at = end;
  }
  return ids_T;
}

// The bytes of this process that are resident at the time of the call.
int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t pages_all = 0;
  int64_t pages_resident = 0;
  file >> pages_all >> pages_resident;
  return pages_resident * sysconf(_SC_PAGESIZE);
}

int64_t bytes_of(const BlockMask& mask) {
  const tessera::BlockMaskData& data = mask.data();
  return static_cast<int64_t>(data.row_offsets.size() * sizeof(int32_t) +
                              data.runs.size() * sizeof(tessera::BlockRun) +
                              data.tile_bits.size() * sizeof(uint64_t));
}

// Calls `work` often enough for a stable best time. Returns the seconds of each call, ascending.
template <typename Work>
std::vector<double> time_calls(Work work, int max_calls) {
  std::vector<double> seconds;
  double spent = 0;
  for (int i = 0; i < max_calls && (spent < 1.0 || i < 3); ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    spent += seconds.back();
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

void report(const std::string& name, const MaskMod& rule, int64_t tokens, int max_calls = 300) {
  const MaskShape shape{.q_len = tokens, .kv_len = tokens};
  const int64_t before = resident_bytes();
  const BlockMask mask = create_block_mask(rule, shape);
  const int64_t resident = resident_bytes() - before;
  const std::vector<double> seconds =
      time_calls([&] { create_block_mask(rule, shape); }, max_calls);
  const json record = {{"name", name},
                       {"rule", rule.to_string()},
                       {"tokens", tokens},
                       {"seconds_best", seconds.front()},
                       {"seconds_median", seconds[seconds.size() / 2]},
                       {"ns_per_token", seconds.front() * 1e9 / static_cast<double>(tokens)},
                       {"runs", mask.data().runs.size()},
                       {"tiles", mask.data().num_tiles()},
                       {"bytes", bytes_of(mask)},
                       {"resident_bytes", resident},
                       {"sparsity", mask.sparsity()}};
  std::cout << record.dump() << std::endl;
}

// The lengths of the first row of `total` tokens.
std::vector<int64_t> lengths_of(const json& rows, int64_t total) {
  for (const json& row : rows) {
    if (row["total"] == total) return row["lengths"];
  }
  throw std::runtime_error("no row of " + std::to_string(total) + " tokens");
}

int run(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: bench_masks DOCUMENT_LENGTHS.json\n";
    return 2;
  }
  at::set_num_threads(1);
  const json rows = json::parse(std::ifstream(argv[1]))["rows"];
  const std::vector<int64_t> million = lengths_of(rows, 1 << 20);
  for (int64_t tokens = 1 << 13; tokens <= 1 << 24; tokens *= 2) {
    report("causal_document", tessera::causal() & tessera::document(document_ids(million, tokens)),
           tokens);
  }
  for (const int64_t tokens : {1 << 16, 1 << 17, 1 << 18, 1 << 19}) {
    const at::Tensor ids_T = document_ids(lengths_of(rows, tokens), tokens);
    report("causal_document_row", tessera::causal() & tessera::document(ids_T), tokens);
  }
  for (const int64_t tokens : {1 << 17, 1 << 20}) {
    const MaskMod documents = tessera::document(document_ids(million, tokens));
    report("document_window_causal",
           documents & tessera::sliding_window({.left = 1023}) & tessera::causal(), tokens);
    report("causal", tessera::causal(), tokens);
  }
  const auto predicate = [](int64_t, int64_t, int64_t q, int64_t kv) {
    return kv <= q && (q - kv) % 3 == 0;
  };
  report("opaque", tessera::mask_fn("dilated_causal", {}, predicate), 1 << 15, 3);
  const auto mod = [](int64_t, int64_t, int64_t q, int64_t kv) { return kv <= q; };
  report("opaque_causal", tessera::mask_fn("opaque_causal", {}, mod), 1 << 15, 3);
  const std::vector<double> ids_seconds =
      time_calls([ids_T = document_ids(million, 1 << 20)] { tessera::document(ids_T); }, 100);
  std::cout << json{{"name", "document_leaf"},
                    {"tokens", 1 << 20},
                    {"seconds_best", ids_seconds.front()}}
                   .dump()
            << std::endl;
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
