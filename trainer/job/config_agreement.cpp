#include "trainer/job/config_agreement.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <vector>

#include "configs/load_config.h"

namespace tessera {
namespace {

constexpr const char* kConfigKey = "config/of_rank_0";
constexpr const char* kVerdictKey = "config/verdict";
constexpr size_t kMostNamed = 4;  // keys of a rank, and ranks: the first say enough

std::string difference_key(int64_t rank) { return "config/difference/" + std::to_string(rank); }
std::string seen_key(int64_t rank) { return "config/seen/" + std::to_string(rank); }

using Values = std::map<std::string, std::string>;

// Values by "section.key". to_toml writes one key a line, unset ones as comments.
Values values_of(const std::string& toml) {
  Values values;
  std::string section;
  std::istringstream text(toml);
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with('[')) section = line.substr(1, line.find(']') - 1);
    if (line.starts_with("# ")) line.erase(0, 2);
    const size_t equals = line.find(" = ");
    if (equals == std::string::npos) continue;
    std::string key = section;
    key.append(".").append(line, 0, equals);
    values[key] = line.substr(equals + 3);
  }
  return values;
}

std::string value_of(const Values& values, const std::string& key) {
  const auto at = values.find(key);
  return at == values.end() ? "not a key" : at->second;  // the other rank runs another version
}

// "a, b, c, d and 3 more"
std::string listing(const std::vector<std::string>& items, const char* separator) {
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), kMostNamed); ++i)
    text.append(i == 0 ? "" : separator).append(items[i]);
  if (items.size() > kMostNamed)
    text += " and " + std::to_string(items.size() - kMostNamed) + " more";
  return text;
}

// The error that rank 0 tells all ranks after it has heard all others; "" when they agree.
std::string verdict_of(const World& world) {
  std::vector<std::string> differing;
  for (int64_t rank = 1; rank < world.size(); ++rank) {
    const std::string difference = world.read(difference_key(rank));
    if (!difference.empty())
      differing.push_back(("rank " + std::to_string(rank)).append(": ").append(difference));
  }
  if (differing.empty()) return "";
  return "the configurations of the ranks differ, expected the same everywhere: " +
         listing(differing, "; ");
}

}  // namespace

std::string config_differences(const std::string& toml, const std::string& others_toml,
                               const std::string& others_name) {
  const Values ours = values_of(toml), theirs = values_of(others_toml);
  Values keys = ours;  // of both
  keys.insert(theirs.begin(), theirs.end());
  std::vector<std::string> differences;
  for (const auto& [key, ignored] : keys) {
    const std::string our_value = value_of(ours, key), their_value = value_of(theirs, key);
    if (our_value == their_value) continue;
    std::string text = key;
    text.append(" is ").append(our_value).append(" (").append(others_name).append(": ");
    differences.push_back(text.append(their_value).append(")"));
  }
  return listing(differences, ", ");
}

void check_same_config(const JobConfig& config, const World& world) {
  if (world.size() == 1) return;
  const std::string toml = to_toml(config);
  if (world.rank() == 0) {
    world.publish(kConfigKey, toml);
    const std::string verdict = verdict_of(world);
    world.publish(kVerdictKey, verdict);
    if (verdict.empty()) return;
    // This rank may serve the store, and takes it along when it leaves.
    for (int64_t rank = 1; rank < world.size(); ++rank) world.read(seen_key(rank));
    throw ConfigError(verdict);
  }
  world.publish(difference_key(world.rank()),
                config_differences(toml, world.read(kConfigKey), "rank 0"));
  const std::string verdict = world.read(kVerdictKey);
  if (verdict.empty()) return;
  world.publish(seen_key(world.rank()), "");
  throw ConfigError(verdict);
}

}  // namespace tessera
