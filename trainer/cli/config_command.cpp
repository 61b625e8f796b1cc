// `tessera config`: prints the resolved configuration as TOML, the schema of all keys as JSON, or
// the page docs/configuration.md. Only --print reads the file and the overrides.
#include <iostream>

#include "configs/load_config.h"
#include "trainer/cli/commands.h"

namespace tessera {
namespace {

struct ConfigCommandOptions {
  std::string config_path;
  std::vector<std::string> overrides{};
  bool print = false;
  bool schema = false;
  bool markdown = false;
};

void add_options(CommandLine& line, ConfigCommandOptions& options) {
  line.add_option("--config,--job.config_file", &options.config_path,
                  "TOML file of the job; defaults without it");
  OptionGroup view = line.add_group("view");
  view.add_flag("--print", &options.print, "the resolved configuration as TOML");
  view.add_flag("--schema", &options.schema, "every key with type, default and meaning, as JSON");
  view.add_flag("--markdown", &options.markdown, "the same as docs/configuration.md");
  view.require_one();
  line.keep_unknown(&options.overrides);
}

void print(const ConfigCommandOptions& options) {
  const LoadedConfig loaded = load_config(options.config_path, options.overrides);
  for (const std::string& warning : loaded.warnings) std::cerr << "warning: " << warning << '\n';
  std::cout << to_toml(loaded.config);
}

int run(const ConfigCommandOptions& options) {
  if (options.schema) {
    std::cout << schema_json();
  } else if (options.markdown) {
    std::cout << configuration_markdown();
  } else {
    print(options);
  }
  return kExitOk;
}

}  // namespace

Command config_command() {
  return make_command("config", "show a resolved configuration, or every key there is", add_options,
                      run);
}

}  // namespace tessera
