#include "configs/job_config.h"

namespace tessera {

std::optional<int64_t> seed(const JobConfig& config) {
  return config.debug.seed ? config.debug.seed : config.training.seed;
}

std::string dataset_format(const Training& training) {
  return training.dataset == "text_files" ? "text_files" : "jsonl";
}

int64_t global_batch_size(const Training& training, int64_t data_parallel_degree) {
  if (training.global_batch_size > 0) return training.global_batch_size;
  return training.local_batch_size * data_parallel_degree;
}

int64_t gradient_accumulation_steps(const Training& training, int64_t data_parallel_degree) {
  return global_batch_size(training, data_parallel_degree) /
         (training.local_batch_size * data_parallel_degree);
}

}  // namespace tessera
