// Any text is either a rule or an error; a rule prints as text that is the same rule.
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>

#include "attention/registry/mask_parser.h"

namespace {

const tessera::MaskContext& context() {
  static const tessera::MaskContext context{
      .document_ids_BT = at::tensor(std::vector<int64_t>{0, 0, 1, 1}),
      .valid_BT = at::tensor(std::vector<int64_t>{1, 1, 1, 0}).eq(1),
      .block_ids_BT = at::tensor(std::vector<int64_t>{-1, 0, -1, 0}),
      .prefix_lengths_B = at::tensor(std::vector<int64_t>{2})};
  return context;
}

void require(bool holds) {
  if (!holds) __builtin_trap();
}

// The answers that a rule gives must fit together wherever it is defined.
void check_answers(const tessera::MaskMod& rule) {
  using tessera::TileVerdict;
  const tessera::TokenRange queries = rule.covered_queries();
  const tessera::TokenRange keys = rule.covered_keys();
  const bool covers = queries.begin <= 0 && queries.end >= 4 && keys.begin <= 0 && keys.end >= 4;
  if (!covers) return;
  const TileVerdict verdict = rule.classify(0, 0, {0, 4}, {0, 4});
  for (int64_t q = 0; q < 4; ++q) {
    for (int64_t kv = 0; kv < 4; ++kv) {
      const bool allowed = rule.allows(0, 0, q, kv);
      require(verdict != TileVerdict::kFull || allowed);
      require(verdict != TileVerdict::kEmpty || !allowed);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string text(reinterpret_cast<const char*>(bytes), size);
  try {
    const tessera::MaskMod rule = tessera::parse_mask(text, context());
    const tessera::MaskMod again = tessera::parse_mask(rule.to_string(), context());
    require(again == rule && again.hash() == rule.hash());
    tessera::check_mask_syntax(text);
    check_answers(rule);
  } catch (const c10::Error&) {
  }
  return 0;
}
