// The schema and the page of documentation, both made from the field table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "configs/schema/config_fields.h"
#include "tests/configs/config_test_support.h"

namespace tessera {
namespace {

using configs::ConfigSection;
using configs::Field;
using nlohmann::json;
using ::testing::HasSubstr;

const json& schema_of(const json& schema, const std::string& name) {
  const json* place = &schema;
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    place = &place->at("properties").at(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return *place;
}

TEST(Schema, HoldsEveryKeyWithDefaultAndMeaning) {
  const json schema = json::parse(schema_json());
  EXPECT_EQ(schema.at("additionalProperties"), false);
  for (const ConfigSection& section : configs::config_sections()) {
    EXPECT_EQ(schema_of(schema, section.name).at("description"), section.doc);
    EXPECT_EQ(schema_of(schema, section.name).at("additionalProperties"), false);
    for (const Field& field : section.fields) {
      const json& key = schema_of(schema, field.name());
      EXPECT_EQ(key.at("description"), field.doc) << field.name();
      EXPECT_TRUE(key.contains("default")) << field.name();
      EXPECT_TRUE(key.contains("type") || key.contains("anyOf")) << field.name();
    }
  }
}

TEST(Schema, TypesAndLimits) {
  const json schema = json::parse(schema_json());
  const json& steps = schema_of(schema, "training.steps");
  EXPECT_EQ(steps.at("type"), "integer");
  EXPECT_EQ(steps.at("minimum"), 1);
  EXPECT_EQ(steps.at("default"), 10000);
  const json& beta1 = schema_of(schema, "optimizer.beta1");
  EXPECT_EQ(beta1.at("type"), "number");
  EXPECT_EQ(beta1.at("exclusiveMaximum"), 1);
  EXPECT_EQ(schema_of(schema, "optimizer.lr").at("exclusiveMinimum"), 0);
  EXPECT_EQ(schema_of(schema, "lr_scheduler.decay_type").at("enum"),
            json({"linear", "sqrt", "cosine"}));
  EXPECT_EQ(schema_of(schema, "lr_scheduler.decay_ratio").at("default"), nullptr);
  EXPECT_EQ(
      schema_of(schema, "lr_scheduler.decay_ratio").at("anyOf"),
      json::parse(R"([{"type": "number", "minimum": 0.0, "maximum": 1.0}, {"const": "none"}])"));
  EXPECT_EQ(schema_of(schema, "training.global_batch_size").at("anyOf"),
            json::parse(R"([{"type": "integer", "minimum": 1}, {"enum": [-1]}])"));
  EXPECT_EQ(schema_of(schema, "compile.components").at("items").at("enum"),
            json({"model", "loss"}));
  EXPECT_EQ(schema_of(schema, "model.name").at("minLength"), 1);
  EXPECT_EQ(schema_of(schema, "training.dataloader.num_workers").at("x-supported"), json({0}));
  EXPECT_EQ(schema_of(schema, "training.gc_freq").at("x-reason"),
            "there is no Python garbage collector");
}

TEST(Documentation, TellsTypeDefaultLimitsAndSupport) {
  const std::string page = configuration_markdown();
  EXPECT_THAT(page, HasSubstr("## [training]"));
  EXPECT_THAT(page,
              HasSubstr("| `steps` | int | `10000` | at least 1 | Optimizer steps of the run. |"));
  EXPECT_THAT(page,
              HasSubstr("| `decay_type` | string | `\"linear\"` | `linear`, `sqrt`, `cosine` |"));
  EXPECT_THAT(page, HasSubstr("| `decay_ratio` | float, or none | `none` | from 0 to 1 |"));
  EXPECT_THAT(page,
              HasSubstr("**Supported today: `\"fused\"`** (the others give the same numbers"));
  EXPECT_THAT(page, HasSubstr("No effect: there is no Python garbage collector."));
}

// A cell with a bar or a line break would break the table.
TEST(Documentation, RowsHaveFiveCells) {
  const std::string page = configuration_markdown();
  int num_rows = 0;
  for (size_t begin = 0; begin < page.size();) {
    const size_t end = page.find('\n', begin);
    const std::string line = page.substr(begin, end - begin);
    begin = end + 1;
    if (line.empty() || line[0] != '|') continue;
    ++num_rows;
    EXPECT_EQ(std::count(line.begin(), line.end(), '|'), 6) << line;
  }
  EXPECT_EQ(num_rows, 161 + 2 * static_cast<int>(configs::config_sections().size()));
}

TEST(Documentation, FileIsUpToDate) {
  std::ifstream file(std::string(TESSERA_SOURCE_DIR) + "/docs/configuration.md", std::ios::binary);
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(page == configuration_markdown())
      << "docs/configuration.md is out of date; run: tessera config --markdown > "
         "docs/configuration.md";
}

}  // namespace
}  // namespace tessera
