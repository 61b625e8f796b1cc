// The example of docs/masks.md, compiled and run as it stands there.
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "attention/backends/eager_attention.h"
#include "attention/registry/mask_registry.h"
#include "attention/registry/registry.h"

namespace tessera {
namespace {

// [example]
// "prefix(n=64)": causal, and the first n tokens of every document see each other.
MaskMod prefix(const MaskArguments& arguments, const MaskContext& context) {
  return per_document(causal() | first_tokens(*arguments.get("n")), context.document_ids_BT);
}

// Tiles of 64 x 64: with prefixes of whole tiles, none of them is partial inside a prefix.
BlockMask prefix_tiles(const MaskMod& rule, const MaskShape& shape, const MaskConfig& config) {
  TORCH_CHECK(config.is_causal, "prefix_tiles: got a bidirectional model, expected a causal one");
  MaskShape tiles = shape;
  tiles.block = {.q = 64, .kv = 64};
  return create_block_mask(rule, tiles);
}

void add_prefix(MaskRegistry& masks, AttentionRegistry& attention) {
  masks.add_rule({.name = "prefix",
                  .description = "causal, with the first n tokens of a document seen by all of it",
                  .parameters = {{.name = "n"}},
                  .reads_context = true,
                  .make = prefix});
  masks.add_form({.name = "prefix_tiles", .description = "64 x 64 tiles", .build = prefix_tiles});
  attention.add({.name = "prefix_attention",
                 .description = "eager attention on 64 x 64 tiles",
                 .function = eager_attention,
                 .mask_form = "prefix_tiles"});
}
// [example end]

TEST(MaskExampleTest, RuleFormAndBackendWorkTogether) {
  MaskRegistry masks = MaskRegistry::with_builtins();
  AttentionRegistry attention = AttentionRegistry::with_builtins();
  add_prefix(masks, attention);

  const at::Tensor ids_T = at::tensor(std::vector<int64_t>{0, 1}).repeat_interleave(256);
  const MaskMod rule = parse_mask("prefix(n=128)", {.document_ids_BT = ids_T}, masks);
  const CreateMaskFn create_mask_fn =
      masks.create_mask_fn(attention.get("prefix_attention").mask_form, MaskConfig{});
  const BlockMask mask = create_mask_fn(rule, {.q_len = 512, .kv_len = 512});

  EXPECT_TRUE(mask.allows(0, 0, 256, 256 + 127));   // inside the second document's prefix
  EXPECT_FALSE(mask.allows(0, 0, 256, 256 + 128));  // behind it
  EXPECT_FALSE(mask.allows(0, 0, 256, 0));          // the other document
  // Rows of tiles: two of prefix (one full run), then two with a diagonal tile, per document.
  EXPECT_EQ(mask.runs(0, 0, 4).vec(), (std::vector<BlockRun>{{4, 6}}));
  EXPECT_EQ(mask.data().num_tiles(), 1);
}

TEST(MaskExampleTest, DocumentationHoldsThisCode) {
  const auto read = [](const std::string& path) {
    std::ifstream file(std::string(TESSERA_SOURCE_DIR) + path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  };
  const std::string source = read("/tests/attention/registry/mask_example_test.cpp");
  const size_t begin = source.find("// [example]\n") + 13;
  const std::string example = source.substr(begin, source.find("// [example end]") - begin);
  EXPECT_GT(example.size(), 500U);
  EXPECT_NE(read("/docs/masks.md").find(example), std::string::npos)
      << "docs/masks.md differs from the example in this file";
}

}  // namespace
}  // namespace tessera
