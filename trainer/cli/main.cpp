// The `tessera` program: command line in, exit status out.
#include <c10/util/Exception.h>
#include <CLI/CLI.hpp>

#include <cstdio>
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

int dispatch(int argc, char** argv) {
  CLI::App app("Trains language models on LibTorch, with attention masks passed explicitly.");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  std::string config_path;

  CLI::App* train = app.add_subcommand("train", "run a training job");
  train->add_option("--config,--job.config_file", config_path, "TOML file of the job")->required();
  train->allow_extras();
  train->footer(
      "Any configuration key as an override: --training.steps 50, --metrics.log_freq=1, "
      "--checkpoint.enable.");

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

  tessera::MaskCommandOptions mask_options;
  const CLI::App* mask = add_mask_command(app, mask_options);

  if (argc > 1 && argv[1][0] != '-' && !train->check_name(argv[1]) &&
      !config->check_name(argv[1]) && !mask->check_name(argv[1])) {
    std::fprintf(stderr, "tessera: error: unknown command \"%s\"; expected train, config or mask\n",
                 argv[1]);
    return tessera::kExitUsage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? tessera::kExitOk : tessera::kExitUsage;
  }
  if (train->parsed()) return tessera::train_command(config_path, train->remaining());
  if (mask->parsed()) return tessera::mask_command(mask_options);
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
