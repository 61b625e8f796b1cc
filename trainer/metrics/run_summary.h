// The block that a run prints before its first step: what is trained, on what, with what.
//
//   log.info(start_banner(banner_info(config, layout, model, tokenizer, num_documents, device)));
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tessera {

// The fields of the block, with examples. Texts are shown as given; a field that is left empty,
// zero or unset has no line.
struct BannerInfo {
  std::string version = {};  // "0.1.0"
  std::string model = {};    // "llama3 debugmodel: 6 layers, dim 256, 16 heads, vocabulary 2048"
  int64_t num_parameters = 0;
  std::string layout = {};     // "1 rank: dp_replicate 1 x dp_shard 1 x cp 1 x tp 1 x pp 1"
  std::string device = {};     // "cpu (Intel ...)"
  std::string dtype = {};      // "parameters float32, compute bfloat16"
  std::string attention = {};  // "sdpa, mask causal & document"
  std::string activation_checkpoint = {};  // "none", "full", "1 of 2 layers"
  int64_t local_batch_size = 0;            // rows of one microbatch on one rank
  int64_t seq_len = 0;
  int64_t num_microbatches = 1;  // gradient accumulation
  int64_t num_data_ranks = 1;    // ranks that read rows of their own

  // "AdamW, lr 0.0008, betas 0.9 0.95, eps 1e-08, weight decay 0.1, clip 1"
  std::string optimizer = {};

  std::string schedule = {};  // "2 warm-up, 1 stable, 8 linear decay"
  int64_t num_steps = 0;
  std::string dataset = {};  // "text_files"
  std::string dataset_path = {};
  int64_t num_documents = 0;
  std::string tokenizer = {};  // "bytes (259 ids)"
  int64_t num_threads = 0;
  std::optional<int64_t> seed = {};
  std::string dump_folder = {};
};

// The block: several lines, keys aligned, no newline at the end.
//
//   Tessera 0.1.0
//     model        llama3 debugmodel: ...
//     parameters   6,163,712 (6.2 M)
//     batch        8 rows x 2,048 tokens x 1 microbatch x 1 rank = 16,384 tokens per step
std::string start_banner(const BannerInfo& info);

}  // namespace tessera
