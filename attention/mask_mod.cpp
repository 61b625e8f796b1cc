#include "attention/mask_mod.h"

#include <c10/util/Exception.h>

#include <typeinfo>

#include "attention/mask_node.h"

namespace tessera {

namespace {

class FullNode : public MaskNode {
 public:
  bool allows(int64_t, int64_t, int64_t, int64_t) const override { return true; }
  void bands(int64_t, int64_t, const Band& within, std::vector<Band>& out) const override {
    out.push_back(within);
  }
  TileVerdict classify(int64_t, int64_t, TokenRange, TokenRange) const override {
    return TileVerdict::kFull;
  }
  std::string to_string() const override { return "full"; }
  bool equals(const MaskNode&) const override { return true; }
  size_t hash() const override { return 1; }
};

class NoneNode : public MaskNode {
 public:
  bool allows(int64_t, int64_t, int64_t, int64_t) const override { return false; }
  void bands(int64_t, int64_t, const Band&, std::vector<Band>&) const override {}
  TileVerdict classify(int64_t, int64_t, TokenRange, TokenRange) const override {
    return TileVerdict::kEmpty;
  }
  std::string to_string() const override { return "none"; }
  bool equals(const MaskNode&) const override { return true; }
  size_t hash() const override { return 2; }
};

class CausalNode : public MaskNode {
 public:
  bool allows(int64_t, int64_t, int64_t q, int64_t kv) const override { return kv <= q; }
  void bands(int64_t, int64_t, const Band& within, std::vector<Band>& out) const override {
    const Band lower{.queries = within.queries, .keys = within.keys, .diag_end = 1};
    const Band common = intersect(within, lower);
    if (!common.empty()) out.push_back(common);
  }
  TileVerdict classify(int64_t, int64_t, TokenRange queries, TokenRange keys) const override {
    if (keys.end - 1 <= queries.begin) return TileVerdict::kFull;
    return keys.begin < queries.end ? TileVerdict::kMixed : TileVerdict::kEmpty;
  }
  std::string to_string() const override { return "causal"; }
  bool equals(const MaskNode&) const override { return true; }
  size_t hash() const override { return 3; }
};

// A rule for B batch rows goes with rules for one row or for B; likewise heads.
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

int64_t common_tokens(const std::vector<MaskMod>& rules) {
  int64_t tokens = -1;
  for (const MaskMod& rule : rules) {
    const int64_t own = rule.num_tokens();
    if (own >= 0 && (tokens < 0 || own < tokens)) tokens = own;
  }
  return tokens;
}

std::string parenthesised(const MaskMod& rule, MaskPrecedence outer) {
  const std::string text = rule.to_string();
  return rule.node().precedence() < outer ? "(" + text + ")" : text;
}

// What `and` and `or` share: an ordered list of rules that keeps no nested node of its own kind.
class ListNode : public MaskNode {
 public:
  explicit ListNode(std::vector<MaskMod> rules)
      : rules_(std::move(rules)),
        batch_size_(common_size(rules_, "batch rows", &MaskMod::batch_size)),
        num_heads_(common_size(rules_, "heads", &MaskMod::num_heads)),
        num_tokens_(common_tokens(rules_)) {}

  const std::vector<MaskMod>& rules() const { return rules_; }
  int64_t batch_size() const override { return batch_size_; }
  int64_t num_heads() const override { return num_heads_; }
  int64_t num_tokens() const override { return num_tokens_; }
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

 private:
  std::vector<MaskMod> rules_;
  int64_t batch_size_;
  int64_t num_heads_;
  int64_t num_tokens_;
};

class AndNode : public ListNode {
 public:
  using ListNode::ListNode;

  bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const override {
    return std::all_of(rules().begin(), rules().end(),
                       [&](const MaskMod& rule) { return rule.node().allows(b, h, q, kv); });
  }
  void bands(int64_t b, int64_t h, const Band& within, std::vector<Band>& out) const override {
    std::vector<Band> current{within};
    std::vector<Band> next;
    for (const MaskMod& rule : rules()) {
      next.clear();
      for (const Band& band : current) rule.node().bands(b, h, band, next);
      current.swap(next);
    }
    out.insert(out.end(), current.begin(), current.end());
  }
  TileVerdict classify(int64_t b, int64_t h, TokenRange queries, TokenRange keys) const override {
    TileVerdict verdict = TileVerdict::kFull;
    for (const MaskMod& rule : rules()) {
      const TileVerdict own = rule.node().classify(b, h, queries, keys);
      if (own == TileVerdict::kEmpty) return own;
      if (own == TileVerdict::kMixed) verdict = own;
    }
    return verdict;
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
  void bands(int64_t b, int64_t h, const Band& within, std::vector<Band>& out) const override {
    for (const MaskMod& rule : rules()) rule.node().bands(b, h, within, out);
  }
  TileVerdict classify(int64_t b, int64_t h, TokenRange queries, TokenRange keys) const override {
    TileVerdict verdict = TileVerdict::kEmpty;
    for (const MaskMod& rule : rules()) {
      const TileVerdict own = rule.node().classify(b, h, queries, keys);
      if (own == TileVerdict::kFull) return own;
      if (own == TileVerdict::kMixed) verdict = own;
    }
    return verdict;
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
  void bands(int64_t b, int64_t h, const Band& within, std::vector<Band>& out) const override {
    std::vector<Band> inner;
    rule_.node().bands(b, h, within, inner);
    subtract(within, std::move(inner), out);
  }
  TileVerdict classify(int64_t b, int64_t h, TokenRange queries, TokenRange keys) const override {
    switch (rule_.node().classify(b, h, queries, keys)) {
      case TileVerdict::kEmpty:
        return TileVerdict::kFull;
      case TileVerdict::kFull:
        return TileVerdict::kEmpty;
      case TileVerdict::kMixed:
        break;
    }
    return TileVerdict::kMixed;
  }
  int64_t batch_size() const override { return rule_.batch_size(); }
  int64_t num_heads() const override { return rule_.num_heads(); }
  int64_t num_tokens() const override { return rule_.num_tokens(); }
  std::string to_string() const override { return "~" + parenthesised(rule_, precedence()); }
  MaskPrecedence precedence() const override { return MaskPrecedence::kNot; }
  bool equals(const MaskNode& other) const override {
    return rule_ == static_cast<const NotNode&>(other).rule_;
  }
  size_t hash() const override { return hash_combine(6, rule_.hash()); }

 private:
  MaskMod rule_;
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

void check_covered(const MaskMod& rule, int64_t b, int64_t h) {
  TORCH_CHECK(b >= 0 && (rule.batch_size() == 1 || b < rule.batch_size()), "mask rule ",
              rule.to_string(), ": got batch row ", b, ", expected 0 to ", rule.batch_size() - 1);
  TORCH_CHECK(h >= 0 && (rule.num_heads() == 1 || h < rule.num_heads()), "mask rule ",
              rule.to_string(), ": got head ", h, ", expected 0 to ", rule.num_heads() - 1);
}

void check_covered(const MaskMod& rule, const char* what, TokenRange range) {
  const int64_t tokens = rule.num_tokens();
  TORCH_CHECK(tokens < 0 || (range.begin >= 0 && range.end <= tokens), "mask rule ",
              rule.to_string(), ": got ", what, " ", range.begin, " to ", range.end - 1,
              ", expected 0 to ", tokens - 1, ", the tokens of its tensors");
}

}  // namespace

MaskMod::MaskMod(std::shared_ptr<const MaskNode> node) : node_(std::move(node)) {
  TORCH_CHECK(node_ != nullptr, "MaskMod: got no node, expected a rule");
}

bool MaskMod::allows(int64_t b, int64_t h, int64_t q, int64_t kv) const {
  check_covered(*this, b, h);
  check_covered(*this, "query", {q, q + 1});
  check_covered(*this, "key", {kv, kv + 1});
  return node_->allows(b, h, q, kv);
}

RangeSet MaskMod::allowed_keys(int64_t b, int64_t h, int64_t q, TokenRange keys) const {
  if (keys.empty()) return {};
  check_covered(*this, b, h);
  check_covered(*this, "query", {q, q + 1});
  check_covered(*this, "keys", keys);
  std::vector<Band> bands;
  node_->bands(b, h, {.queries = {q, q + 1}, .keys = keys}, bands);
  RangeSet ranges;
  for (const Band& band : bands) ranges.push_back({band.first_key(q), band.end_key(q)});
  return merge_ranges(std::move(ranges));
}

TileVerdict MaskMod::classify(int64_t b, int64_t h, TokenRange queries, TokenRange keys) const {
  if (queries.empty() || keys.empty()) return TileVerdict::kEmpty;
  check_covered(*this, b, h);
  check_covered(*this, "queries", queries);
  check_covered(*this, "keys", keys);
  return node_->classify(b, h, queries, keys);
}

int64_t MaskMod::batch_size() const { return node_->batch_size(); }
int64_t MaskMod::num_heads() const { return node_->num_heads(); }
int64_t MaskMod::num_tokens() const { return node_->num_tokens(); }
std::string MaskMod::to_string() const { return node_->to_string(); }
size_t MaskMod::hash() const { return node_->hash(); }

bool MaskMod::operator==(const MaskMod& other) const {
  if (node_ == other.node_) return true;
  const MaskNode& a = *node_;
  const MaskNode& b = *other.node_;
  return typeid(a) == typeid(b) && a.equals(b);
}

MaskMod causal() { return MaskMod(std::make_shared<CausalNode>()); }
MaskMod full() { return MaskMod(std::make_shared<FullNode>()); }
MaskMod none() { return MaskMod(std::make_shared<NoneNode>()); }

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

}  // namespace tessera
