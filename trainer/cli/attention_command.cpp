// `tessera attention`: lists attention backends, mask forms and mask rules
// (trainer/pictures/attention_report.h).
#include <iostream>

#include "trainer/cli/commands.h"
#include "trainer/pictures/attention_report.h"

namespace tessera {
namespace {

struct AttentionCommandOptions {
  std::string custom_import;  // as experimental.custom_import
  bool json = false;
};

void add_options(CommandLine& line, AttentionCommandOptions& options) {
  line.add_option("--custom_import", &options.custom_import,
                  "shared libraries to load first, separated by commas, as "
                  "experimental.custom_import",
                  {.value = "FILE,..."});
  line.add_flag("--json", &options.json, "one JSON object");
}

int run(const AttentionCommandOptions& options) {
  const Registries registries = make_registries(options.custom_import);
  std::cout << (options.json ? attention_json(registries) : attention_text(registries));
  return kExitOk;
}

}  // namespace

Command attention_command() {
  return make_command("attention", "list attention backends, mask forms and mask rules",
                      add_options, run);
}

}  // namespace tessera
