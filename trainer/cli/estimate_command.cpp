// `tessera estimate`: prints what a job needs of each rank, as text or JSON
// (trainer/estimate/estimate.h).
#include <c10/util/Exception.h>

#include <iostream>

#include "configs/load_config.h"
#include "trainer/cli/commands.h"
#include "trainer/estimate/estimate.h"

namespace tessera {
namespace {

struct EstimateCommandOptions {
  std::string config_path;
  std::vector<std::string> overrides{};
  int64_t num_ranks = 1;
  std::optional<std::string> documents{};  // a JSON file (trainer/estimate/document_rows.h)
  bool json = false;
};

void add_options(CommandLine& line, EstimateCommandOptions& options) {
  line.add_option("--config,--job.config_file", &options.config_path, "TOML file of the job",
                  {.required = true});
  line.add_option("--world", &options.num_ranks, "number of ranks; 1", {.value = "N"});
  line.add_option("--documents", &options.documents,
                  "for context parallelism: JSON with the lengths of documents, one list, or a "
                  "list of rows of them, also as {\"rows\": [{\"lengths\": [...]}]}; a row is one "
                  "document without",
                  {.value = "FILE"});
  line.add_flag("--json", &options.json, "one JSON object instead of the table");
  line.keep_unknown(&options.overrides);
  line.set_footer(
      "tessera estimate --config job.toml --world 512 --parallelism.tensor_parallel_degree 8");
}

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

int run(const EstimateCommandOptions& options) {
  if (options.num_ranks < 1) {
    throw UsageError("--world: got " + std::to_string(options.num_ranks) +
                     ", expected a number of ranks from 1 on");
  }
  const LoadedConfig loaded = load_config(options.config_path, options.overrides);
  for (const std::string& warning : loaded.warnings) std::cerr << "warning: " << warning << '\n';
  const Estimate estimate =
      estimate_job(loaded.config, options.num_ranks, documents_of(loaded.config, options));
  std::cout << (options.json ? estimate_json(estimate) : estimate_text(estimate));
  return kExitOk;
}

}  // namespace

Command estimate_command() {
  return make_command("estimate",
                      "memory of a rank and bytes it sends in a step, for any number of ranks",
                      add_options, run);
}

}  // namespace tessera
