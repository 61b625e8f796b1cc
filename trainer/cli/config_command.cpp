#include <iostream>

#include "configs/load_config.h"
#include "trainer/cli/commands.h"

namespace tessera {

int config_command(ConfigView view, const std::string& config_path,
                   const std::vector<std::string>& overrides) {
  switch (view) {
    case ConfigView::kSchema:
      std::cout << schema_json();
      break;
    case ConfigView::kMarkdown:
      std::cout << configuration_markdown();
      break;
    case ConfigView::kPrint: {
      const LoadedConfig loaded = load_config(config_path, overrides);
      for (const std::string& warning : loaded.warnings)
        std::cerr << "warning: " << warning << '\n';
      std::cout << to_toml(loaded.config);
      break;
    }
  }
  return kExitOk;
}

}  // namespace tessera
