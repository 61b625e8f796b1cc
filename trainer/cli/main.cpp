// The `tessera` program: command line in, exit status out.
#include <c10/util/Exception.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>

#include "configs/load_config.h"
#include "trainer/cli/commands.h"

namespace {

constexpr const char* kVersion =
    "tessera " TESSERA_VERSION " (LibTorch " TESSERA_LIBTORCH_VERSION ")";

// Prints the message of an error and returns the exit status it stands for.
int report(const std::exception& error) {
  const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
  const bool is_usage = dynamic_cast<const tessera::ConfigError*>(&error) != nullptr ||
                        dynamic_cast<const tessera::UsageError*>(&error) != nullptr;
  std::fprintf(stderr, "tessera: error: %s\n",
               c10_error ? c10_error->what_without_backtrace() : error.what());
  return is_usage ? tessera::kExitUsage : tessera::kExitFailed;
}

void add_layout_options(CLI::App& mask, tessera::MaskCommandOptions& options) {
  tessera::LayoutFlags& flags = options.layout;
  CLI::Option_group* row = mask.add_option_group("Row", "what the tokens of a row are");
  row->add_option("--tokens", flags.tokens, "length of the row")->type_name("N");
  row->add_option("--documents", flags.documents,
                  "lengths of the documents in order, such as 700,1500; what is left is padding, a "
                  "document of its own without valid keys; without any the row is one document")
      ->type_name("N,...");
  row->add_option("--positions", flags.positions,
                  "positions of the tokens, such as 0,1,2,0,1: a document starts where one does "
                  "not follow the one before")
      ->type_name("N,...");
  row->add_option("--layout", flags.layout,
                  "JSON with tokens, documents, positions, images, prefix, window, chunk, or rows "
                  "of a batch; see docs/masks.md")
      ->type_name("FILE");
  row->add_option("--row", options.row, "only this row of the batch, from 0")->type_name("N");

  CLI::Option_group* more = mask.add_option_group("Additions", "what extends the rule");
  more->add_option("--window", flags.window, "adds `& window(left=L)` or (left=L, right=R)")
      ->type_name("L[,R]");
  more->add_option("--chunk", flags.chunk,
                   "adds `& per_document(chunked(size=C))`: chunks count from the start of each "
                   "document")
      ->type_name("C");
  more->add_option("--images", flags.images,
                   "tokens that all see each other, each image inside one document; `causal` "
                   "becomes `(causal | block_ids)` unless the rule names block_ids")
      ->type_name("START:LENGTH,...");
  more->add_option("--prefix", flags.prefix,
                   "each document sees its first N tokens: `causal` becomes `(causal | "
                   "per_document(prefix_lm))` unless the rule names prefix_lm")
      ->type_name("N");
}

CLI::App* add_mask_command(CLI::App& app, tessera::MaskCommandOptions& options) {
  CLI::App* mask = app.add_subcommand("mask", "show, measure or draw an attention mask");
  mask->add_option("rule", options.rule, "such as \"causal & document & window(left=127)\"")
      ->required();
  add_layout_options(*mask, options);
  CLI::Option_group* part = mask->add_option_group("Mask", "which part of the row, in which tiles");
  part->add_option("--block", options.block, "tokens of a tile; 128")->type_name("N|Q,KV");
  part->add_option("--q-tokens", options.q_tokens, "queries; all to the end")->type_name("N");
  part->add_option("--q-offset", options.q_offset, "token of the first query; 0")->type_name("N");
  part->add_option("--kv-offset", options.kv_offset, "token of the first key; 0")->type_name("N");
  CLI::Option_group* output = mask->add_option_group("Output", "a picture, if not --json");
  output->add_flag("--json", options.json, "one JSON object instead of the picture");
  output->add_option("--svg", options.svg, "draw the mask into this file")->type_name("FILE");
  output->add_flag("--estimate", options.estimate,
                   "memory of the mask as dense bool, as bias and as block mask");
  return mask;
}

CLI::App* add_train_command(CLI::App& app, std::string& config_path, tessera::RankFlags& flags) {
  CLI::App* train = app.add_subcommand("train", "run a training job");
  train->add_option("--config,--job.config_file", config_path, "TOML file of the job")->required();
  CLI::Option_group* ranks = train->add_option_group(
      "Ranks", "which of several processes this is, where no launcher says so by variables");
  ranks->add_option("--rank", flags.rank, "0 to world size - 1")->type_name("N");
  ranks->add_option("--world-size", flags.world_size, "number of processes")->type_name("N");
  ranks->add_option("--local-rank", flags.local_rank, "rank among those of this machine")
      ->type_name("N");
  ranks->add_option("--master-addr", flags.master_address, "host of rank 0")->type_name("HOST");
  ranks->add_option("--master-port", flags.master_port, "port that rank 0 serves")
      ->type_name("PORT");
  train->allow_extras();
  train->footer(
      "Any configuration key as an override: --training.steps 50, --metrics.log_freq=1, "
      "--checkpoint.enable.");
  return train;
}

CLI::App* add_launch_command(CLI::App& app, tessera::LaunchCommandOptions& options) {
  CLI::App* launch =
      app.add_subcommand("launch", "run a command of this program as several processes");
  launch->add_option("--nproc", options.nproc, "processes of this machine")
      ->required()
      ->type_name("N");
  launch
      ->add_option("--max-restarts", options.max_restarts,
                   "how often all start anew after one has failed; 0")
      ->type_name("K");
  launch->add_option("--nnodes", options.nnodes, "machines, each with a launcher; 1")
      ->type_name("N");
  launch->add_option("--node-rank", options.node_rank, "this machine, from 0; 0")->type_name("R");
  launch->add_option("--master-addr", options.master_address, "host with --node-rank 0; 127.0.0.1")
      ->type_name("HOST");
  launch
      ->add_option("--master-port", options.master_port,
                   "port that the launcher of --node-rank 0 serves; 0 is any free one")
      ->type_name("PORT");
  launch->footer("tessera launch --nproc 4 -- train --config job.toml --training.steps 50");
  return launch;
}

CLI::App* add_estimate_command(CLI::App& app, std::string& config_path,
                               tessera::EstimateCommandOptions& options) {
  CLI::App* estimate = app.add_subcommand(
      "estimate", "memory of a rank and bytes it sends in a step, for any number of ranks");
  estimate->add_option("--config,--job.config_file", config_path, "TOML file of the job")
      ->required();
  estimate->add_option("--world", options.num_ranks, "number of ranks; 1")->type_name("N");
  estimate
      ->add_option("--documents", options.documents,
                   "for context parallelism: JSON with the lengths of documents, one list, or a "
                   "list of rows of them, also as {\"rows\": [{\"lengths\": [...]}]}; a row is one "
                   "document without")
      ->type_name("FILE");
  estimate->add_flag("--json", options.json, "one JSON object instead of the table");
  estimate->allow_extras();
  estimate->footer(
      "tessera estimate --config job.toml --world 512 --parallelism.tensor_parallel_degree 8");
  return estimate;
}

// Takes the arguments after "--" off the command line and returns them: CLI11 would give them back
// to the main program's options.
std::vector<std::string> take_command_after_dashes(int& argc, char** argv) {
  char** end = argv + argc;
  char** dashes = std::find_if(argv, end, [](const char* text) { return !strcmp(text, "--"); });
  if (dashes == end) return {};
  std::vector<std::string> command(dashes + 1, end);
  argc = static_cast<int>(dashes - argv);
  return command;
}

// Throws UsageError when `name` is no command.
void check_command(const CLI::App& app, const std::string& name) {
  std::string names;
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->check_name(name)) return;
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  throw tessera::UsageError("unknown command \"" + name + "\"; expected one of " + names);
}

CLI::App* add_attention_command(CLI::App& app, tessera::AttentionCommandOptions& options) {
  CLI::App* attention =
      app.add_subcommand("attention", "list attention backends, mask forms and mask rules");
  attention
      ->add_option("--custom_import", options.custom_import,
                   "shared libraries to load first, separated by commas, as "
                   "experimental.custom_import")
      ->type_name("FILE,...");
  attention->add_flag("--json", options.json, "one JSON object");
  return attention;
}

CLI::App* add_schedule_command(CLI::App& app, tessera::ScheduleCommandOptions& options) {
  CLI::App* schedule = app.add_subcommand("schedule", "check, measure or draw a pipeline schedule");
  CLI::Option_group* named = schedule->add_option_group("Schedule", "a named one");
  named
      ->add_option("--schedule", options.schedule,
                   "GPipe, 1F1B, Interleaved1F1B, LoopedBFS, InterleavedZeroBubble, "
                   "ZBVZeroBubble or DualPipeV; 1F1B")
      ->type_name("NAME");
  named->add_option("--pp", options.num_ranks, "ranks of the pipeline")->type_name("N");
  named->add_option("--microbatches", options.num_microbatches, "microbatches of a step")
      ->type_name("N");
  named
      ->add_option("--virtual", options.stages_per_rank,
                   "stages of a rank; 1 or 2, as the schedule has it")
      ->type_name("N");
  CLI::Option_group* own = schedule->add_option_group("Own", "one's own");
  own->add_option("--csv", options.csv,
                  "a line per rank of actions such as 2I0 (stage, F, B, I or W, microbatch); see "
                  "docs/pipeline.md")
      ->type_name("FILE");
  CLI::Option_group* costs = schedule->add_option_group("Costs", "in any unit of time");
  costs
      ->add_option("--costs", options.costs,
                   "forward, backward, backward of the input, of the weights; 1,2,1,1. With two, "
                   "the others are half of B")
      ->delimiter(',')
      ->type_name("F,B[,I,W]");
  costs->add_option("--transfer", options.transfer, "from one rank to another; 0")->type_name("T");
  CLI::Option_group* output = schedule->add_option_group("Output", "a timeline, if not --json");
  output->add_flag("--json", options.json, "one JSON object instead of the timeline");
  output->add_option("--svg", options.svg, "draw the timeline into this file")->type_name("FILE");
  output->add_option("--write-csv", options.write_csv, "write the schedule into this file")
      ->type_name("FILE");
  return schedule;
}

int dispatch(int argc, char** argv) {
  CLI::App app("Trains language models on LibTorch, with attention masks passed explicitly.");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  std::string config_path;

  tessera::RankFlags rank_flags;
  const CLI::App* train = add_train_command(app, config_path, rank_flags);
  tessera::LaunchCommandOptions launch_options;
  const CLI::App* launch = add_launch_command(app, launch_options);

  bool print = false, schema = false, markdown = false;
  CLI::App* config =
      app.add_subcommand("config", "show a resolved configuration, or every key there is");
  config->add_option("--config,--job.config_file", config_path,
                     "TOML file of the job; defaults without it");
  CLI::Option_group* view = config->add_option_group("view");
  view->add_flag("--print", print, "the resolved configuration as TOML");
  view->add_flag("--schema", schema, "every key with type, default and meaning, as JSON");
  view->add_flag("--markdown", markdown, "the same as docs/configuration.md");
  view->require_option(1);
  config->allow_extras();

  tessera::EstimateCommandOptions estimate_options;
  const CLI::App* estimate = add_estimate_command(app, config_path, estimate_options);
  tessera::MaskCommandOptions mask_options;
  const CLI::App* mask = add_mask_command(app, mask_options);
  tessera::AttentionCommandOptions attention_options;
  const CLI::App* attention = add_attention_command(app, attention_options);

  tessera::ScheduleCommandOptions schedule_options;
  const CLI::App* schedule = add_schedule_command(app, schedule_options);

  const std::string name = argc > 1 ? argv[1] : "-";
  if (!name.starts_with('-')) check_command(app, name);
  if (name == "launch") launch_options.command = take_command_after_dashes(argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? tessera::kExitOk : tessera::kExitUsage;
  }
  if (train->parsed()) return tessera::train_command(config_path, train->remaining(), rank_flags);
  if (launch->parsed()) return tessera::launch_command(launch_options);
  if (estimate->parsed()) {
    return tessera::estimate_command(config_path, estimate->remaining(), estimate_options);
  }
  if (attention->parsed()) return tessera::attention_command(attention_options);
  if (mask->parsed()) return tessera::mask_command(mask_options);
  if (schedule->parsed()) return tessera::schedule_command(schedule_options);
  using tessera::ConfigView;
  const ConfigView wanted = schema     ? ConfigView::kSchema
                            : markdown ? ConfigView::kMarkdown
                                       : ConfigView::kPrint;
  return tessera::config_command(wanted, config_path, config->remaining());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return dispatch(argc, argv);
  } catch (const std::exception& error) {
    return report(error);
  }
}
