// Random damage to TOML and to command lines: the only way out is a configuration or a ConfigError.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "configs/schema/config_fields.h"
#include "tests/configs/config_test_support.h"

namespace tessera {
namespace {

using testing::TempDir;

const std::vector<std::string> kPieces = {
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\"",
    "'",
    "#",
    "\"\"\"",
    "'''",
    "\n",
    "\\u00",
    "\\",
    "1e999",
    "-",
    "nan",
    "0x",
    "true",
    "1_",
    "none",
    "steps",
    "[training]",
    "[job]\n",
    "\xff",
    std::string(1, '\0'),
    "\xc3\xa9",
    "999999999999999999999",
};

void mutate(std::string& text, std::mt19937& random) {
  const size_t place = text.empty() ? 0 : random() % text.size();
  switch (random() % 5) {
    case 0:
      text.erase(place, 1 + random() % 8);
      break;
    case 1:
      text.insert(place, kPieces[random() % kPieces.size()]);
      break;
    case 2:
      if (!text.empty()) text[place] = static_cast<char>(random() % 256);
      break;
    case 3:
      text.insert(place, text.substr(random() % (text.size() + 1), random() % 40));
      break;
    default:
      text.resize(place);
      break;
  }
}

bool loads(const std::string& path, const std::vector<std::string>& overrides) {
  try {
    load_config(path, overrides);
    return true;
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()), "");
    return false;
  }
}

TEST(Fuzz, DamagedTomlNeverCrashes) {
  JobConfig config;
  config.training.dataset_path = "data";
  const std::string whole = to_toml(config);
  const std::string small =
      "[training]\ndataset_path = \"d\"\nsteps = 10\n[optimizer]\nlr = 1e-3\n";
  const TempDir folder;
  int num_loaded = 0;
  for (unsigned seed = 0; seed < 4000; ++seed) {
    std::mt19937 random(seed);
    std::string text = seed % 2 == 0 ? whole : small;
    for (unsigned i = 0; i <= random() % 4; ++i) mutate(text, random);
    SCOPED_TRACE("seed " + std::to_string(seed));
    num_loaded += loads(folder.write("fuzz.toml", text), {}) ? 1 : 0;
  }
  EXPECT_GT(num_loaded, 100);  // both outcomes were exercised
  EXPECT_LT(num_loaded, 3000);
}

TEST(Fuzz, DamagedCommandLinesNeverCrash) {
  std::vector<std::string> words = {"--", "-1", "true", "none", "x", "", "--x.y=1", "1,2"};
  for (const configs::ConfigSection& section : configs::config_sections()) {
    for (const configs::Field& field : section.fields) words.push_back("--" + field.name());
  }
  int num_loaded = 0;
  for (unsigned seed = 0; seed < 4000; ++seed) {
    std::mt19937 random(seed);
    std::vector<std::string> arguments = {"--training.dataset_path=d"};
    for (unsigned i = 0; i <= random() % 3; ++i) {
      std::string word = words[random() % words.size()];
      if (random() % 2 == 0) word += "=" + words[random() % 8];
      if (random() % 4 == 0) mutate(word, random);
      arguments.push_back(word);
    }
    // A file that happens to exist would be read; the option has its own tests.
    if (arguments[1].find("config") != std::string::npos) continue;
    SCOPED_TRACE("seed " + std::to_string(seed));
    num_loaded += loads("", arguments) ? 1 : 0;
  }
  EXPECT_GT(num_loaded, 20);
}

// toml++ recurses over nested values and over the parts of dotted keys; the limits must hold the
// stack.
TEST(Fuzz, DeepNestingIsRefused) {
  const TempDir folder;
  std::string dotted = "a";
  for (int i = 0; i < 1000; ++i) dotted += ".a";
  const std::string lists(20000, '[');
  std::string tables;
  for (int i = 0; i < 5000; ++i) tables += "{a=";
  for (const std::string& text : {dotted + " = 1", "[" + dotted + "]", "a = " + lists,
                                  "a = " + tables, "[training." + dotted + "]"}) {
    EXPECT_FALSE(loads(folder.write("deep.toml", text), {}));
  }
}

}  // namespace
}  // namespace tessera
