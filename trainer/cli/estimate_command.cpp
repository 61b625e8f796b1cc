#include <c10/util/Exception.h>

#include <iostream>

#include "configs/load_config.h"
#include "trainer/cli/commands.h"
#include "trainer/estimate/estimate.h"

namespace tessera {
namespace {

DocumentRows documents_of(const JobConfig& config, const EstimateCommandOptions& options) {
  if (!options.documents) return {};
  const int64_t degree = config.parallelism.context_parallel_degree;
  if (degree == 1) {
    throw UsageError(
        "--documents: they matter to context parallelism alone; got "
        "parallelism.context_parallel_degree = 1, expected more");
  }
  try {
    return read_document_rows(*options.documents, config.training.seq_len);
  } catch (const c10::Error& error) {
    throw UsageError(std::string("--documents: ") + error.what_without_backtrace());
  }
}

}  // namespace

int estimate_command(const std::string& config_path, const std::vector<std::string>& overrides,
                     const EstimateCommandOptions& options) {
  if (options.num_ranks < 1) {
    throw UsageError("--world: got " + std::to_string(options.num_ranks) +
                     ", expected a number of ranks from 1 on");
  }
  const LoadedConfig loaded = load_config(config_path, overrides);
  for (const std::string& warning : loaded.warnings) std::cerr << "warning: " << warning << '\n';
  const Estimate estimate =
      estimate_job(loaded.config, options.num_ranks, documents_of(loaded.config, options));
  std::cout << (options.json ? estimate_json(estimate) : estimate_text(estimate));
  return kExitOk;
}

}  // namespace tessera
