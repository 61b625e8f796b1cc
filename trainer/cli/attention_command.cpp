#include <iostream>

#include "trainer/cli/commands.h"
#include "trainer/pictures/attention_report.h"

namespace tessera {

int attention_command(const AttentionCommandOptions& options) {
  const Registries registries = make_registries(options.custom_import);
  std::cout << (options.json ? attention_json(registries) : attention_text(registries));
  return kExitOk;
}

}  // namespace tessera
