#include "attention/masks/mask_mod.h"

#include <c10/util/Exception.h>

#include <typeinfo>

#include "attention/masks/mask_node.h"

namespace tessera {

namespace {

void check_covered(const MaskMod& rule, int64_t b, int64_t h) {
  TORCH_CHECK(b >= 0 && (rule.batch_size() == 1 || b < rule.batch_size()), "mask rule ",
              rule.to_string(), ": got batch row ", b, ", expected 0 to ", rule.batch_size() - 1);
  TORCH_CHECK(h >= 0 && (rule.num_heads() == 1 || h < rule.num_heads()), "mask rule ",
              rule.to_string(), ": got head ", h, ", expected 0 to ", rule.num_heads() - 1);
}

void check_covered(const MaskMod& rule, const char* what, TokenRange range, TokenRange covered) {
  TORCH_CHECK(contains(covered, range), "mask rule ", rule.to_string(), ": got ", what, " ",
              range.begin, " to ", range.end - 1, ", expected ", covered.begin, " to ",
              covered.end - 1, ", which its tensors cover");
}

// The ranges of set bits, as keys: bit i is key keys.begin + i.
RangeSet ranges_of_bits(const std::vector<uint64_t>& words, TokenRange keys) {
  RangeSet ranges;
  for (int64_t i = 0; i < keys.size(); ++i) {
    if ((words[i / 64] >> (i % 64) & 1) == 0) continue;
    const int64_t key = keys.begin + i;
    if (!ranges.empty() && ranges.back().end == key) {
      ++ranges.back().end;
    } else {
      ranges.push_back({key, key + 1});
    }
  }
  return ranges;
}

}  // namespace

void set_bits(uint64_t* words, int64_t begin, int64_t end) {
  for (int64_t w = begin / 64; w * 64 < end; ++w) {
    const int64_t low = std::max<int64_t>(begin - w * 64, 0);
    const int64_t high = std::min<int64_t>(end - w * 64, 64);
    words[w] |= (~uint64_t{0} >> (64 - (high - low))) << low;
  }
}

void MaskNode::fill_row(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits) const {
  std::fill(bits, bits + num_words(keys.size()), 0);
  std::vector<Band> row;
  bands(b, h, {.queries = {q, q + 1}, .keys = keys}, MaskBound::kCertain, row);
  for (const Band& band : row) {
    set_bits(bits, band.first_key(q) - keys.begin, band.end_key(q) - keys.begin);
  }
}

MaskMod::MaskMod(std::shared_ptr<const MaskNode> node) : node_(std::move(node)) {
  TORCH_CHECK(node_ != nullptr, "MaskMod: got no node, expected a rule");
}

bool MaskMod::allows(int64_t b, int64_t h, int64_t q, int64_t kv) const {
  check_covered(*this, b, h);
  check_covered(*this, "query", {q, q + 1}, covered_queries());
  check_covered(*this, "key", {kv, kv + 1}, covered_keys());
  return node_->allows(b, h, q, kv);
}

RangeSet MaskMod::allowed_keys(int64_t b, int64_t h, int64_t q, TokenRange keys) const {
  if (keys.empty()) return {};
  check_covered(*this, b, h);
  check_covered(*this, "query", {q, q + 1}, covered_queries());
  check_covered(*this, "keys", keys, covered_keys());
  if (node_->opaque()) {
    std::vector<uint64_t> bits(num_words(keys.size()));
    node_->fill_row(b, h, q, keys, bits.data());
    return ranges_of_bits(bits, keys);
  }
  std::vector<Band> bands;
  node_->bands(b, h, {.queries = {q, q + 1}, .keys = keys}, MaskBound::kCertain, bands);
  RangeSet ranges;
  for (const Band& band : bands) ranges.push_back({band.first_key(q), band.end_key(q)});
  return merge_ranges(std::move(ranges));
}

TileVerdict MaskMod::classify(int64_t b, int64_t h, TokenRange queries, TokenRange keys) const {
  if (queries.empty() || keys.empty()) return TileVerdict::kEmpty;
  check_covered(*this, b, h);
  check_covered(*this, "queries", queries, covered_queries());
  check_covered(*this, "keys", keys, covered_keys());
  const Band tile{.queries = queries, .keys = keys};
  std::vector<Band> bands;
  node_->bands(b, h, tile, MaskBound::kPossible, bands);
  if (bands.empty()) return TileVerdict::kEmpty;
  if (node_->opaque()) {
    bands.clear();
    node_->bands(b, h, tile, MaskBound::kCertain, bands);
  }
  std::vector<Band> missing;
  subtract(tile, std::move(bands), missing);
  return missing.empty() ? TileVerdict::kFull : TileVerdict::kMixed;
}

int64_t MaskMod::batch_size() const { return node_->batch_size(); }
int64_t MaskMod::num_heads() const { return node_->num_heads(); }
TokenRange MaskMod::covered_queries() const { return node_->covered_queries(); }
TokenRange MaskMod::covered_keys() const { return node_->covered_keys(); }
std::string MaskMod::to_string() const { return node_->to_string(); }
size_t MaskMod::hash() const { return node_->hash(); }

bool MaskMod::operator==(const MaskMod& other) const {
  if (node_ == other.node_) return true;
  const MaskNode& a = *node_;
  const MaskNode& b = *other.node_;
  return typeid(a) == typeid(b) && a.equals(b);
}

}  // namespace tessera
