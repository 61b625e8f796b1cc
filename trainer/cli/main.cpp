// The `tessera` program: command line in, exit status out.
#include <c10/util/Exception.h>

#include <cstdio>
#include <exception>

#include "configs/load_config.h"
#include "trainer/cli/commands.h"

namespace {

// Prints the message of an error and returns the exit status it stands for.
int report(const std::exception& error) {
  const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
  const bool is_usage = dynamic_cast<const tessera::ConfigError*>(&error) != nullptr ||
                        dynamic_cast<const tessera::UsageError*>(&error) != nullptr;
  std::fprintf(stderr, "tessera: error: %s\n",
               c10_error ? c10_error->what_without_backtrace() : error.what());
  return is_usage ? tessera::kExitUsage : tessera::kExitFailed;
}

// In the order of --help.
std::vector<tessera::Command> all_commands() {
  return {
      tessera::train_command(),    tessera::launch_command(), tessera::config_command(),
      tessera::estimate_command(), tessera::mask_command(),   tessera::attention_command(),
      tessera::schedule_command(),
  };
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return tessera::run_program(
        {.description =
             "Trains language models on LibTorch, with attention masks passed explicitly.",
         .version = "tessera " TESSERA_VERSION " (LibTorch " TESSERA_LIBTORCH_VERSION ")"},
        all_commands(), argc, argv);
  } catch (const std::exception& error) {
    return report(error);
  }
}
