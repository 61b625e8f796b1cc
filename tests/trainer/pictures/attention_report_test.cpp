#include "trainer/pictures/attention_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "attention/backends/eager_attention.h"
#include "tests/support/process.h"

namespace tessera {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using testing::ProcessResult;
using testing::run_process;

struct MineArgs {
  double temperature = 0.5;
  at::Tensor gate{};
};

Registries registries_with_mine() {
  Registries registries;
  registries.attention.add(
      {.name = "mine",
       .description = "does nothing",
       .function = eager_attention,
       .mask_form = "none",
       .signature = AttentionSignature::of<MineArgs>(
           {{"temperature", &MineArgs::temperature}, {"gate", &MineArgs::gate}}),
       .aliases = {"ours"}});
  return registries;
}

TEST(AttentionReportTest, TextHasAParagraphForEachBackend) {
  const std::string text = attention_text(registries_with_mine());
  EXPECT_THAT(text,
              HasSubstr("flex (also flex_attention, flash_attention_2)\n"
                        "  block-sparse kernels on the CPU; time follows the live tiles\n"
                        "  mask form  block\n"
                        "  dtypes     Float, BFloat16, Half\n"
                        "  devices    cpu\n"
                        "  features   soft_cap, sinks, bias, alibi, lse, value_dim, gradient, "
                        "bias_gradient\n"));
  EXPECT_THAT(text, HasSubstr("mine (also ours)\n"
                              "  does nothing\n"
                              "  mask form  none\n"
                              "  dtypes     Float, Double, BFloat16, Half\n"
                              "  devices    any\n"
                              "  features   gradient\n"
                              "  arguments  temperature=0.5, gate=no tensor\n"));
  EXPECT_THAT(text, HasSubstr("mask forms\n  block "));
  EXPECT_THAT(text, HasSubstr("  offset(rule, q, kv)   a rule at indices shifted"));
}

TEST(AttentionReportTest, JsonSaysTheSame) {
  const json report = json::parse(attention_json(registries_with_mine()));
  ASSERT_EQ(report.at("backends").size(), 4U);
  const json& mine = report["backends"][3];
  EXPECT_EQ(mine, json::parse(R"({"name": "mine", "aliases": ["ours"],
      "description": "does nothing", "mask_form": "none",
      "dtypes": ["Float", "Double", "BFloat16", "Half"], "devices": [], "features": ["gradient"],
      "arguments": {"temperature": 0.5, "gate": null}})"));
  EXPECT_EQ(report["mask_forms"][1]["name"], "none");
  const json& window = report["mask_rules"][3];
  EXPECT_EQ(window["name"], "window");
  EXPECT_EQ(window["parameters"][0], json::parse(R"({"name": "left", "required": false})"));
}

TEST(AttentionCommand, ListsWhatThereIs) {
  const ProcessResult text = run_process({TESSERA_BINARY, "attention"});
  EXPECT_EQ(text.status, 0);
  EXPECT_EQ(text.output, attention_text({}));
  const ProcessResult as_json = run_process({TESSERA_BINARY, "attention", "--json"});
  EXPECT_EQ(as_json.status, 0);
  EXPECT_EQ(as_json.output, attention_json({}));
  const ProcessResult missing =
      run_process({TESSERA_BINARY, "attention", "--custom_import", "/no/such.so"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_THAT(missing.output, HasSubstr("experimental.custom_import: \"/no/such.so\""));
}

}  // namespace
}  // namespace tessera
