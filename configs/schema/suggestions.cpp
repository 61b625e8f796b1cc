// The nearest name for a misspelt one.
#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "configs/schema/setting.h"

namespace tessera::configs {

namespace {

// The edit distance with insertions, deletions, replacements and swaps of neighbours (optimal
// string alignment).
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

bool contains(std::string_view text, std::string_view part) {
  return part.size() >= 4 && text.find(part) != std::string_view::npos;
}

// How unlike two names are. One that contains the other is near: batch_size and local_batch_size.
size_t unlikeness(std::string_view name, std::string_view candidate) {
  const size_t distance = edit_distance(name, candidate);
  const bool contained = contains(name, candidate) || contains(candidate, name);
  return contained ? std::min<size_t>(distance, 2) : distance;
}

// The candidate nearest to `name`, or "" when none is near. Names of any length are cut, so that
// time stays bounded.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates) {
  name = name.substr(0, 100);
  std::string best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = unlikeness(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// The full names of all keys that are called `key`, in whatever section.
std::vector<std::string> namesakes(const std::string& key) {
  std::vector<std::string> names;
  for (const ConfigSection& section : config_sections()) {
    for (const Field& field : section.fields) {
      if (field.key == key) names.push_back(field.name());
    }
  }
  return names;
}

std::vector<std::string> keys_of(const std::string& section_name) {
  std::vector<std::string> keys;
  for (const ConfigSection& section : config_sections()) {
    for (const Field& field : section.fields) {
      if (section_name.empty()) keys.push_back(field.name());
      if (section.name == section_name) keys.push_back(field.key);
    }
  }
  return keys;
}

// The full names of what `key` may have meant: the same key elsewhere, or else the nearest one of
// `section` ("": of all sections).
std::vector<std::string> similar_keys(const std::string& section, const std::string& key) {
  if (std::vector<std::string> names = namesakes(key); !names.empty()) return names;
  const std::string near = nearest(key, keys_of(section));
  if (near.empty()) return {};
  return {section.empty() ? near : section + "." + near};
}

}  // namespace

std::string suggest_key(const std::string& section, const std::string& key) {
  const std::vector<std::string> names = similar_keys(section, key);
  if (!names.empty()) return "did you mean " + join(names) + "?";
  if (section.empty()) return "`tessera config --schema` lists all keys";
  return "keys of [" + section + "]: " + join(keys_of(section));
}

std::string suggest_option(const std::string& name) {
  std::vector<std::string> names = similar_keys("", name);
  if (names.empty()) return "`tessera config --schema` lists all keys";
  for (std::string& option : names) option.insert(0, "--");
  return "did you mean " + join(names) + "?";
}

std::string suggest_section(const std::string& name) {
  std::vector<std::string> names;
  for (const ConfigSection& section : config_sections()) names.push_back(section.name);
  if (const std::string near = nearest(name, names); !near.empty()) {
    return "did you mean [" + near + "]?";
  }
  return "sections: " + join(names);
}

}  // namespace tessera::configs
