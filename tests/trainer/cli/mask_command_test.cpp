// `tessera mask` as a user meets it.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>

#include "tests/support/files.h"
#include "tests/support/process.h"
#include "tests/trainer/cli/command_expectations.h"
#include "tests/trainer/cli/pseudo_terminal.h"
#include "tests/trainer/pictures/svg_support.h"

namespace tessera {
namespace {

using testing::expect_parts;
using testing::ProcessResult;

ProcessResult mask_program(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {TESSERA_BINARY, "mask"});
  return testing::run_process(arguments);
}

TEST(MaskCommand, PrintsSummaryAndPicture) {
  const ProcessResult result =
      mask_program({"causal & document", "--tokens", "16", "--documents", "12,4", "--block", "4"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.output,
            "causal & document\n"
            "16 x 16 tokens, block 4 x 4: sparsity 56.25%, 88 pairs, 6 runs, 1 bit tiles\n"
            "    0   8\n"
            "    ┬─────┬─\n"
            " 0 ├▒▒ · · ·\n"
            " 4 │██▒▒ · ·\n"
            " 8 │████▒▒ ·\n"
            "12 ├ · · ·▒▒\n"
            "██ full  ▒▒ partial   · empty\n");
}

TEST(MaskCommand, JsonIsOneObject) {
  const ProcessResult result =
      mask_program({"causal & document", "--positions", "0,1,2,0,1", "--window", "1", "--json",
                    "--estimate", "--block", "2,4"});
  ASSERT_EQ(result.status, 0) << result.output;
  const nlohmann::json report = nlohmann::json::parse(result.output);
  EXPECT_EQ(report["rule"], "causal & document & window(left=1)");
  EXPECT_EQ(report["tokens"], 5);
  EXPECT_EQ(report["block"], nlohmann::json({2, 4}));
  EXPECT_EQ(report["num_pairs"], 8);
  EXPECT_EQ(report["rows"], nlohmann::json::parse("[[[0,1]],[[0,2]],[[1,3]],[[3,4]],[[3,5]]]"));
  EXPECT_EQ(report["dense"], nlohmann::json({"10000", "11000", "01100", "00010", "00011"}));
  EXPECT_EQ(report["estimate"]["dense_bool"], 25);
}

TEST(MaskCommand, EstimateAndSvgComeWithThePicture) {
  const testing::TempDir folder;
  const std::string path = (folder.path() / "mask.svg").string();
  const ProcessResult result =
      mask_program({"causal", "--tokens", "1024", "--estimate", "--svg", path});
  expect_parts(result, 0, {"dense bool        1.0 MiB", "block mask", "drawn in " + path, "██"});
  testing::expect_well_formed_svg(testing::content_of(path));
}

TEST(MaskCommand, LongRowsOfManyDocuments) {
  std::string documents = "13000";
  for (int i = 0; i < 1000; ++i) documents += ",100";
  const ProcessResult result =
      mask_program({"causal & document", "--tokens", "131072", "--documents", documents});
  expect_parts(result, 0, {"131,072 x 131,072 tokens", "a cell is"});
}

TEST(MaskCommand, ABatchFromAFile) {
  const testing::TempDir folder;
  const std::string layout = folder.write(
      "batch.json", R"({"tokens": 8, "rows": [{"documents": [8]}, {"documents": [4, 4]}]})");
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"causal & document", "--layout", layout, "--block", "4"});
    return mask_program(more);
  };
  expect_parts(with({}), 0, {"2 rows of 8 x 8", "row 0\n", "4 │██▒▒", "row 1\n", "4 ├ ·▒▒"});
  expect_parts(with({"--row", "1"}), 0, {"\n8 x 8 tokens", "4 ├ ·▒▒"});
  EXPECT_EQ(nlohmann::json::parse(with({"--json"}).output)["rows"].size(), 2u);
  expect_parts(with({"--svg", (folder.path() / "a.svg").string()}), 2, {"--svg", "--row"});
  expect_parts(with({"--svg", (folder.path() / "a.svg").string(), "--row", "1"}), 0, {"a.svg"});
  expect_parts(with({"--row", "2"}), 2, {"--row: got 2, expected 0 to 1"});
  expect_parts(with({"--tokens", "9"}), 2, {"--tokens", "--layout"});
}

TEST(MaskCommand, OnlyTheFirstRowsOfALargeBatchArePictured) {
  const testing::TempDir folder;
  const std::string layout =
      folder.write("batch.json", R"({"tokens": 8, "rows": [{}, {}, {}, {}, {}, {}]})");
  const ProcessResult result = mask_program({"causal", "--layout", layout});
  expect_parts(result, 0, {"row 3\n", "and 2 more rows"});
  EXPECT_EQ(result.output.find("row 4\n"), std::string::npos);
}

TEST(MaskCommand, DocumentsThatSeeEachOtherAreWarnedOf) {
  expect_parts(mask_program({"causal", "--documents", "3,4"}), 0, {"warning", "& document"});
  const ProcessResult apart = mask_program({"causal & document", "--documents", "3,4"});
  EXPECT_EQ(apart.output.find("warning"), std::string::npos) << apart.output;
}

TEST(MaskCommand, UsageErrorsExitWithTwo) {
  expect_parts(mask_program({}), 2, {"rule"});
  expect_parts(mask_program({"causal"}), 2, {"no layout", "--tokens"});
  expect_parts(mask_program({"causal & documnt", "--tokens", "9"}), 2,
               {"column 10", "found \"documnt\"", "document"});
  expect_parts(mask_program({"causal &", "--tokens", "9"}), 2, {"column 9", "the end"});
  expect_parts(mask_program({"window(left=-1)", "--tokens", "9"}), 2, {"column 1", "-1"});
  expect_parts(mask_program({"causal", "--tokens", "9", "--documents", "5,5"}), 2,
               {"--documents: got 10 tokens, expected at most the 9"});
  expect_parts(mask_program({"causal", "--tokens", "9", "--window", "-1"}), 2,
               {"--window: got -1"});
  expect_parts(mask_program({"causal", "--tokens", "9", "--block", "1,2,3"}), 2,
               {"--block: got 3 integers"});
  expect_parts(mask_program({"causal", "--tokens", "9", "--q-offset", "x"}), 2, {"--q-offset"});
  expect_parts(mask_program({"causal", "--tokens", "9", "--kv-offset", "9"}), 2, {"--kv-offset"});
  expect_parts(mask_program({"causal", "--tokens", "9", "--q-tokens", "10"}), 2, {"--q-tokens"});
  expect_parts(mask_program({"causal", "--tokens", "9", "--color"}), 2, {"--color"});
  expect_parts(mask_program({"full", "--tokens", "9", "--images", "1:2"}), 2, {"images", "full"});
}

TEST(MaskCommand, AFileThatCannotBeWrittenExitsWithOne) {
  expect_parts(mask_program({"causal", "--tokens", "9", "--svg", "/no/such/mask.svg"}), 1,
               {"--svg", "/no/such/mask.svg"});
}

TEST(MaskCommand, HelpTellsWhatEachFlagAdds) {
  expect_parts(mask_program({"--help"}), 0,
               {"--documents", "--layout", "& window(left=L)", "& per_document(chunked(size=C))",
                "(causal | block_ids)", "per_document(prefix_lm)", "--json", "--svg"});
  const ProcessResult unknown = testing::run_process({TESSERA_BINARY, "masks"});
  expect_parts(unknown, 2, {"\"masks\"", "expected one of train, launch, config"});
}

// The command's output on a terminal of 40 columns.
std::string output_on_terminal(const char* no_color) {
  const testing::PseudoTerminal terminal(40);
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("NO_COLOR", no_color, 1);
    dup2(terminal.fd(), STDOUT_FILENO);
    execl(TESSERA_BINARY, TESSERA_BINARY, "mask", "causal", "--tokens", "4096", nullptr);
    _exit(127);
  }
  std::string output;
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    output += terminal.output();
    usleep(1000);
  }
  EXPECT_EQ(status, 0);
  return output + terminal.output();
}

TEST(MaskCommand, TerminalsGetColorsUnlessTheUserWantsNone) {
  const std::string colored = output_on_terminal("");
  EXPECT_NE(colored.find("\x1b[36m██"), std::string::npos) << colored;
  EXPECT_NE(colored.find("3,840 │"), std::string::npos) << "2 x 2 tiles a cell: 16 of 40 columns";
  const std::string plain = output_on_terminal("1");
  EXPECT_EQ(plain.find('\x1b'), std::string::npos);
  EXPECT_NE(plain.find("██"), std::string::npos);
}

}  // namespace
}  // namespace tessera
