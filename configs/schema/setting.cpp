#include "configs/schema/setting.h"

#include "configs/load_config.h"

namespace tessera::configs {

std::string Origin::text() const {
  switch (source) {
    case Source::kDefault:
      return "(default)";
    case Source::kCommandLine:
      return "(command line)";
    case Source::kToml:
      break;
  }
  return "(line " + std::to_string(line) + ", column " + std::to_string(column) + " of " + file +
         ")";
}

Origin origin_of(const Origins& origins, const std::string& name) {
  const auto found = origins.find(name);
  return found == origins.end() ? Origin{} : found->second;
}

void throw_config_error(const std::string& name, const std::string& message, const Origin& origin) {
  throw ConfigError(name.substr(0, 100) + ": " + message + " " + origin.text());
}

}  // namespace tessera::configs
