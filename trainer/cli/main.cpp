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
  const bool is_usage = dynamic_cast<const tessera::ConfigError*>(&error) != nullptr;
  std::fprintf(stderr, "tessera: error: %s\n",
               c10_error ? c10_error->what_without_backtrace() : error.what());
  return is_usage ? tessera::kExitUsage : tessera::kExitFailed;
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

  if (argc > 1 && argv[1][0] != '-' && !train->check_name(argv[1]) &&
      !config->check_name(argv[1])) {
    std::fprintf(stderr, "tessera: error: unknown command \"%s\"; expected train or config\n",
                 argv[1]);
    return tessera::kExitUsage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? tessera::kExitOk : tessera::kExitUsage;
  }
  if (train->parsed()) return tessera::train_command(config_path, train->remaining());
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
