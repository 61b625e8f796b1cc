#include "trainer/pictures/mask_report.h"

#include <array>
#include <nlohmann/json.hpp>

#include "trainer/support/text_format.h"

namespace tessera {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMostTokensOfRows = 4096;
constexpr int64_t kMostTokensOfDense = 64;

// A size such as "1.5 GiB", without decimals below a KiB.
std::string bytes_text(int64_t bytes) {
  constexpr std::array<const char*, 7> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto scaled = static_cast<double>(bytes);
  size_t unit = 0;
  // 1023.95 would print as 1024.0: it belongs to the next unit.
  while (scaled >= 1023.95 && unit + 1 < kUnits.size()) {
    scaled /= 1024;
    ++unit;
  }
  return fixed(scaled, unit == 0 ? 0 : 1) + " " + kUnits[unit];
}

ordered_json key_ranges(const MaskView& view, int64_t b, int64_t q) {
  ordered_json ranges = ordered_json::array();
  for (const TokenRange& keys : view.rule.allowed_keys(b, 0, q, view.keys)) {
    ranges.push_back({keys.begin, keys.end});
  }
  return ranges;
}

std::string dense_row(const MaskView& view, int64_t b, int64_t q) {
  std::string bits;
  for (int64_t kv = 0; kv < view.keys.size(); ++kv) {
    bits += view.mask.allows(b, 0, q - view.queries.begin, kv) ? '1' : '0';
  }
  return bits;
}

// describe(view, b, q) of every query, in a list for each batch row if there are several.
template <typename Describe>
ordered_json of_queries(const MaskView& view, Describe describe) {
  ordered_json rows = ordered_json::array();
  for (int64_t b = 0; b < view.mask.shape().batch; ++b) {
    ordered_json row = ordered_json::array();
    for (int64_t q = view.queries.begin; q < view.queries.end; ++q) {
      row.push_back(describe(view, b, q));
    }
    rows.push_back(std::move(row));
  }
  return view.mask.shape().batch == 1 ? std::move(rows.front()) : rows;
}

ordered_json memory_json(const MaskMemory& memory) {
  return {{"dense_bool", memory.dense_bool},
          {"bias_bfloat16", memory.bias_bfloat16},
          {"bias_float32", memory.bias_float32},
          {"block_mask", memory.block_mask}};
}

template <typename T>
int64_t bytes_of(const std::vector<T>& values) {
  return static_cast<int64_t>(values.size() * sizeof(T));
}

}  // namespace

std::string mask_summary(const MaskView& view) {
  const MaskShape& shape = view.mask.shape();
  const BlockMaskData& data = view.mask.data();
  std::string text = view.rule.to_string() + "\n";
  if (shape.batch > 1) text += with_commas(shape.batch) + " rows of ";
  text += with_commas(shape.q_len) + " x " + with_commas(shape.kv_len) + " tokens, block " +
          std::to_string(shape.block.q) + " x " + std::to_string(shape.block.kv) + ": sparsity " +
          fixed(view.mask.sparsity(), 2) + "%, " + with_commas(view.mask.num_pairs()) + " pairs, " +
          with_commas(static_cast<int64_t>(data.runs.size())) + " runs, " +
          with_commas(data.num_tiles()) + " bit tiles\n";
  return text;
}

MaskMemory mask_memory(const BlockMask& mask) {
  const BlockMaskData& data = mask.data();
  const int64_t num_elements = data.shape.batch * data.shape.q_len * data.shape.kv_len;
  return {
      .dense_bool = num_elements,
      .bias_bfloat16 = 2 * num_elements,
      .bias_float32 = 4 * num_elements,
      .block_mask = bytes_of(data.row_offsets) + bytes_of(data.runs) + bytes_of(data.tile_bits)};
}

std::string memory_text(const MaskView& view) {
  const MaskMemory memory = mask_memory(view.mask);
  const std::array<std::pair<const char*, int64_t>, 4> lines = {
      {{"dense bool", memory.dense_bool},
       {"bias bfloat16", memory.bias_bfloat16},
       {"bias float32", memory.bias_float32},
       {"block mask", memory.block_mask}}};
  std::string text = "memory, one head for all:\n";
  for (const auto& [name, bytes] : lines) {
    text += "  " + pad_right(name, 14) + pad_left(bytes_text(bytes), 11) + "\n";
  }
  return text;
}

std::string mask_json(const MaskView& view, const ReportOptions& options) {
  const MaskShape& shape = view.mask.shape();
  const BlockMaskData& data = view.mask.data();
  ordered_json report = {{"rule", view.rule.to_string()},
                         {"batch", shape.batch},
                         {"tokens", view.layout.num_tokens},
                         {"queries", {view.queries.begin, view.queries.end}},
                         {"keys", {view.keys.begin, view.keys.end}},
                         {"block", {shape.block.q, shape.block.kv}},
                         {"sparsity", view.mask.sparsity()},
                         {"num_pairs", view.mask.num_pairs()},
                         {"num_runs", data.runs.size()},
                         {"num_tiles", data.num_tiles()}};
  if (view.layout.num_tokens <= kMostTokensOfRows) report["rows"] = of_queries(view, key_ranges);
  if (view.layout.num_tokens <= kMostTokensOfDense) report["dense"] = of_queries(view, dense_row);
  if (options.estimate) report["estimate"] = memory_json(mask_memory(view.mask));
  return report.dump() + "\n";
}

}  // namespace tessera
