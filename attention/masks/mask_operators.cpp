// Rules made of rules: and, or, not, offset.
#include <c10/util/Exception.h>
#include <c10/util/SmallVector.h>
#include <c10/util/StringUtil.h>

#include <tuple>

#include "attention/masks/mask_node.h"

namespace tessera {

namespace {

// The batch rows (or heads) of a rule made of rules. A rule for B batch rows goes with rules for
// one row or for B; the same holds for heads.
int64_t common_size(const std::vector<MaskMod>& rules, const char* what,
                    int64_t (MaskMod::*size_of)() const) {
  int64_t size = 1;
  for (const MaskMod& rule : rules) {
    const int64_t own = (rule.*size_of)();
    TORCH_CHECK(own == 1 || size == 1 || own == size, "mask rules for different ", what,
                " cannot be combined: got ", size, " and ", own, " (", rule.to_string(),
                "), expected equal numbers or 1");
    size = std::max(size, own);
  }
  return size;
}

TokenRange common_range(const std::vector<MaskMod>& rules,
                        TokenRange (MaskMod::*range_of)() const) {
  TokenRange common = kAllTokens;
  for (const MaskMod& rule : rules) common = intersect(common, (rule.*range_of)());
  return common;
}

std::string parenthesised(const MaskMod& rule, MaskPrecedence outer) {
  const std::string text = rule.to_string();
  return rule.node().precedence() < outer ? "(" + text + ")" : text;
}

// The base of AndNode and OrNode: an ordered list of rules without a nested node of its own kind.
class ListNode : public MaskNode {
 public:
  explicit ListNode(std::vector<MaskMod> rules)
      : rules_(std::move(rules)),
        batch_size_(common_size(rules_, "batch rows", &MaskMod::batch_size)),
        num_heads_(common_size(rules_, "heads", &MaskMod::num_heads)),
        queries_(common_range(rules_, &MaskMod::covered_queries)),
        keys_(common_range(rules_, &MaskMod::covered_keys)),
        opaque_(std::any_of(rules_.begin(), rules_.end(),
                            [](const MaskMod& rule) { return rule.node().opaque(); })) {}

  const std::vector<MaskMod>& rules() const { return rules_; }
  bool opaque() const override { return opaque_; }
  int64_t batch_size() const override { return batch_size_; }
  int64_t num_heads() const override { return num_heads_; }
  TokenRange covered_queries() const override { return queries_; }
  TokenRange covered_keys() const override { return keys_; }
  bool equals(const MaskNode& other) const override {
    return rules_ == static_cast<const ListNode&>(other).rules_;
  }

 protected:
  std::string join(const char* separator) const {
    std::string text;
    for (const MaskMod& rule : rules_) {
      if (!text.empty()) text += separator;
      text += parenthesised(rule, precedence());
    }
    return text;
  }
  size_t hash_rules(size_t seed) const {
    for (const MaskMod& rule : rules_) seed = hash_combine(seed, rule.hash());
    return seed;
  }

  // Each rule's row of bits, joined word by word.
  template <typename Join>
  void join_rows(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits,
                 Join join) const {
    rules_.front().node().fill_row(b, h, q, keys, bits);
    c10::SmallVector<uint64_t, 8> row(num_words(keys.size()));
    for (size_t i = 1; i < rules_.size(); ++i) {
      rules_[i].node().fill_row(b, h, q, keys, row.data());
      for (size_t w = 0; w < row.size(); ++w) bits[w] = join(bits[w], row[w]);
    }
  }

 private:
  std::vector<MaskMod> rules_;
  int64_t batch_size_;
  int64_t num_heads_;
  TokenRange queries_;
  TokenRange keys_;
  bool opaque_;
};

// Drops equal bands from a long list. Rules that overlap give the same band over and over, and an
// "and" of several "or"s multiplies the repetitions; a short list is not worth the sorting.
void drop_repeated(std::vector<Band>& bands) {
  constexpr size_t kFew = 64;
  if (bands.size() <= kFew) return;
  const auto key = [](const Band& band) {
    return std::tuple(band.queries.begin, band.keys.begin, band.queries.end, band.keys.end,
                      band.diag_begin, band.diag_end);
  };
  const auto before = [&](const Band& a, const Band& b) { return key(a) < key(b); };
  if (!std::is_sorted(bands.begin(), bands.end(), before)) {
    std::sort(bands.begin(), bands.end(), before);
  }
  bands.erase(std::unique(bands.begin(), bands.end()), bands.end());
}

class AndNode : public ListNode {
 public:
  using ListNode::ListNode;

  bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const override {
    return std::all_of(rules().begin(), rules().end(),
                       [&](const MaskMod& rule) { return rule.node().allows(b, h, q, kv); });
  }
  void bands(int64_t b, int64_t h, const Band& within, MaskBound bound,
             std::vector<Band>& out) const override {
    std::vector<Band> current{within};
    std::vector<Band> next;
    for (const MaskMod& rule : rules()) {
      next.clear();
      for (const Band& band : current) rule.node().bands(b, h, band, bound, next);
      drop_repeated(next);
      current.swap(next);
    }
    out.insert(out.end(), current.begin(), current.end());
  }
  void fill_row(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits) const override {
    if (!opaque()) return MaskNode::fill_row(b, h, q, keys, bits);
    join_rows(b, h, q, keys, bits, [](uint64_t x, uint64_t y) { return x & y; });
  }
  std::string to_string() const override { return join(" & "); }
  MaskPrecedence precedence() const override { return MaskPrecedence::kAnd; }
  size_t hash() const override { return hash_rules(4); }
};

class OrNode : public ListNode {
 public:
  using ListNode::ListNode;

  bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const override {
    return std::any_of(rules().begin(), rules().end(),
                       [&](const MaskMod& rule) { return rule.node().allows(b, h, q, kv); });
  }
  void bands(int64_t b, int64_t h, const Band& within, MaskBound bound,
             std::vector<Band>& out) const override {
    for (const MaskMod& rule : rules()) rule.node().bands(b, h, within, bound, out);
  }
  void fill_row(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits) const override {
    if (!opaque()) return MaskNode::fill_row(b, h, q, keys, bits);
    join_rows(b, h, q, keys, bits, [](uint64_t x, uint64_t y) { return x | y; });
  }
  std::string to_string() const override { return join(" | "); }
  MaskPrecedence precedence() const override { return MaskPrecedence::kOr; }
  size_t hash() const override { return hash_rules(5); }
};

class NotNode : public MaskNode {
 public:
  explicit NotNode(MaskMod rule) : rule_(std::move(rule)) {}

  bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const override {
    return !rule_.node().allows(b, h, q, kv);
  }
  void bands(int64_t b, int64_t h, const Band& within, MaskBound bound,
             std::vector<Band>& out) const override {
    std::vector<Band> inner;
    rule_.node().bands(b, h, within, opposite(bound), inner);
    subtract(within, std::move(inner), out);
  }
  void fill_row(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits) const override {
    rule_.node().fill_row(b, h, q, keys, bits);
    const int64_t words = num_words(keys.size());
    for (int64_t w = 0; w < words; ++w) bits[w] = ~bits[w];
    if (keys.size() % 64 != 0) bits[words - 1] &= (uint64_t{1} << keys.size() % 64) - 1;
  }
  bool opaque() const override { return rule_.node().opaque(); }
  int64_t batch_size() const override { return rule_.batch_size(); }
  int64_t num_heads() const override { return rule_.num_heads(); }
  TokenRange covered_queries() const override { return rule_.covered_queries(); }
  TokenRange covered_keys() const override { return rule_.covered_keys(); }
  std::string to_string() const override { return "~" + parenthesised(rule_, precedence()); }
  MaskPrecedence precedence() const override { return MaskPrecedence::kNot; }
  bool equals(const MaskNode& other) const override {
    return rule_ == static_cast<const NotNode&>(other).rule_;
  }
  size_t hash() const override { return hash_combine(6, rule_.hash()); }

 private:
  MaskMod rule_;
};

class OffsetNode : public MaskNode {
 public:
  OffsetNode(MaskMod rule, int64_t q, int64_t kv) : rule_(std::move(rule)), q_(q), kv_(kv) {}

  bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const override {
    return rule_.node().allows(b, h, q + q_, kv + kv_);
  }
  void bands(int64_t b, int64_t h, const Band& within, MaskBound bound,
             std::vector<Band>& out) const override {
    const size_t first = out.size();
    rule_.node().bands(b, h, shifted(within, q_, kv_), bound, out);
    for (size_t i = first; i < out.size(); ++i) out[i] = shifted(out[i], -q_, -kv_);
  }
  void fill_row(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits) const override {
    rule_.node().fill_row(b, h, q + q_, shifted(keys, kv_), bits);
  }
  bool opaque() const override { return rule_.node().opaque(); }
  int64_t batch_size() const override { return rule_.batch_size(); }
  int64_t num_heads() const override { return rule_.num_heads(); }
  TokenRange covered_queries() const override { return shifted(rule_.covered_queries(), -q_); }
  TokenRange covered_keys() const override { return shifted(rule_.covered_keys(), -kv_); }
  std::string to_string() const override {
    return c10::str("offset(", rule_.to_string(), ", q=", q_, ", kv=", kv_, ")");
  }
  bool equals(const MaskNode& other) const override {
    const auto& that = static_cast<const OffsetNode&>(other);
    return q_ == that.q_ && kv_ == that.kv_ && rule_ == that.rule_;
  }
  size_t hash() const override { return hash_combine(hash_combine(rule_.hash(), q_), kv_); }

 private:
  MaskMod rule_;
  int64_t q_;
  int64_t kv_;
};

template <typename Node>
MaskMod combine(const std::vector<MaskMod>& rules) {
  if (rules.size() == 1) return rules.front();
  std::vector<MaskMod> flat;
  for (const MaskMod& rule : rules) {
    if (const auto* list = dynamic_cast<const Node*>(&rule.node())) {
      flat.insert(flat.end(), list->rules().begin(), list->rules().end());
    } else {
      flat.push_back(rule);
    }
  }
  return MaskMod(std::make_shared<Node>(std::move(flat)));
}

}  // namespace

MaskMod and_masks(const std::vector<MaskMod>& rules) {
  return rules.empty() ? full() : combine<AndNode>(rules);
}
MaskMod or_masks(const std::vector<MaskMod>& rules) {
  return rules.empty() ? none() : combine<OrNode>(rules);
}
MaskMod not_mask(const MaskMod& rule) { return MaskMod(std::make_shared<NotNode>(rule)); }
MaskMod operator&(const MaskMod& a, const MaskMod& b) { return and_masks({a, b}); }
MaskMod operator|(const MaskMod& a, const MaskMod& b) { return or_masks({a, b}); }
MaskMod operator~(const MaskMod& a) { return not_mask(a); }

MaskMod offset(const MaskMod& rule, int64_t q_offset, int64_t kv_offset) {
  for (const int64_t value : {q_offset, kv_offset}) {
    TORCH_CHECK(std::abs(value) <= Band::kUnbounded / 4, "offset: got ", value,
                ", expected at most 2^46 either way");
  }
  return MaskMod(std::make_shared<OffsetNode>(rule, q_offset, kv_offset));
}

}  // namespace tessera
