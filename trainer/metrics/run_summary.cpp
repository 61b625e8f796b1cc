#include "trainer/metrics/run_summary.h"

#include "trainer/support/text_format.h"

namespace tessera {
namespace {

std::string plural(int64_t count, const std::string& one, const std::string& many) {
  return with_commas(count) + " " + (count == 1 ? one : many);
}

std::string join(const std::string& a, const std::string& b) {
  return a.empty() || b.empty() ? a + b : a + ", " + b;
}

std::string parameters_text(int64_t num_parameters) {
  if (num_parameters == 0) return "";
  const std::string exact = with_commas(num_parameters);
  return num_parameters < 1000 ? exact : exact + " (" + short_count(num_parameters) + ")";
}

std::string batch_text(const BannerInfo& info) {
  if (info.local_batch_size == 0 || info.seq_len == 0) return "";
  const int64_t num_tokens =
      info.local_batch_size * info.seq_len * info.num_microbatches * info.num_data_ranks;
  return plural(info.local_batch_size, "row", "rows") + " x " +
         plural(info.seq_len, "token", "tokens") + " x " +
         plural(info.num_microbatches, "microbatch", "microbatches") + " x " +
         plural(info.num_data_ranks, "rank", "ranks") + " = " +
         plural(num_tokens, "token", "tokens") + " per step";
}

std::string dataset_text(const BannerInfo& info) {
  const std::string documents =
      info.num_documents == 0 ? "" : plural(info.num_documents, "document", "documents");
  return join(join(info.dataset, info.dataset_path), documents);
}

std::string count_text(int64_t count) { return count == 0 ? "" : with_commas(count); }

}  // namespace

std::string start_banner(const BannerInfo& info) {
  std::string banner = "Tessera " + info.version;
  const auto add = [&](const char* key, const std::string& value) {
    constexpr size_t kKeyWidth = 13;
    if (!value.empty()) banner += "\n  " + pad_right(key, kKeyWidth) + value;
  };
  add("model", info.model);
  add("parameters", parameters_text(info.num_parameters));
  add("layout", info.layout);
  add("device", info.device);
  add("dtype", info.dtype);
  add("attention", info.attention);
  add("activations", info.activation_checkpoint);
  add("batch", batch_text(info));
  add("steps", count_text(info.num_steps));
  add("optimizer", info.optimizer);
  add("schedule", info.schedule);
  add("dataset", dataset_text(info));
  add("tokenizer", info.tokenizer);
  add("threads", count_text(info.num_threads));
  add("seed", info.seed ? std::to_string(*info.seed) : "");
  add("dump folder", info.dump_folder);
  return banner;
}

}  // namespace tessera
