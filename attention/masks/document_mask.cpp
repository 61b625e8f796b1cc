// Packed documents of a row as runs of tokens: document, per_document.
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include "attention/masks/mask_node.h"
#include "attention/masks/mask_tensors.h"

namespace tessera {

namespace {

// First tokens of one row's documents, ascending, then the row's length.
using DocumentStarts = std::vector<int64_t>;

// Two runs with one id would make a document of two pieces, which no run list can say.
void check_adjacent(const int64_t* ids, const DocumentStarts& starts, int64_t row) {
  std::vector<std::pair<int64_t, int64_t>> runs;  // (id, start)
  for (size_t i = 0; i + 1 < starts.size(); ++i) runs.emplace_back(ids[starts[i]], starts[i]);
  std::sort(runs.begin(), runs.end());
  for (size_t i = 1; i < runs.size(); ++i) {
    TORCH_CHECK(runs[i].first != runs[i - 1].first, "document: ids_BT row ", row, " has id ",
                runs[i].first, " in separate runs that start at tokens ", runs[i - 1].second,
                " and ", runs[i].second, ", expected equal ids to be adjacent");
  }
}

DocumentStarts document_starts(const int64_t* ids, int64_t num_tokens, int64_t row) {
  DocumentStarts starts{0};
  bool ascending = true;  // then no id can come back, and nothing needs to be sorted
  for (int64_t i = 1; i < num_tokens; ++i) {
    if (ids[i] != ids[i - 1]) {
      starts.push_back(i);
      ascending = ascending && ids[i] > ids[i - 1];
    }
  }
  starts.push_back(num_tokens);
  if (!ascending) check_adjacent(ids, starts, row);
  return starts;
}

// The documents of every batch row. The class keeps where documents start, not their ids, so that
// rules that allow the same pairs are equal.
class Documents {
 public:
  explicit Documents(const at::Tensor& ids_BT) {
    const at::Tensor rows_BT = checked_rows("document: ids_BT", ids_BT, at::kLong, 2);
    const int64_t* ids = rows_BT.const_data_ptr<int64_t>();
    const int64_t num_tokens = rows_BT.size(1);
    for (int64_t b = 0; b < rows_BT.size(0); ++b) {
      rows_.push_back(document_starts(ids + b * num_tokens, num_tokens, b));
    }
  }

  int64_t batch_size() const { return static_cast<int64_t>(rows_.size()); }
  int64_t num_tokens() const { return rows_.front().back(); }

  // The start of the document that holds `token`; the next element is its end.
  const int64_t* find(int64_t b, int64_t token) const {
    const DocumentStarts& starts = batch_row(rows_, b);
    return &*std::upper_bound(starts.begin(), starts.end(), token) - 1;
  }

  TokenRange at(int64_t b, int64_t token) const {
    const int64_t* start = find(b, token);
    return {start[0], start[1]};
  }

  // Calls visit(document, part of `within` inside it) for the documents that have a pair there.
  template <typename Visit>
  void for_each(int64_t b, const Band& within, Visit visit) const {
    const TokenRange tokens{0, num_tokens()};
    const Band covered = intersect(within, {.queries = tokens, .keys = tokens});
    if (covered.empty()) return;
    // A document's keys are its queries, so only documents that meet both ranges have pairs.
    const int64_t* first = std::max(find(b, covered.queries.begin), find(b, covered.keys.begin));
    const int64_t* last = std::min(find(b, covered.queries.end - 1), find(b, covered.keys.end - 1));
    for (const int64_t* start = first; start <= last; ++start) {
      const TokenRange document{start[0], start[1]};
      const Band common = intersect(within, {.queries = document, .keys = document});
      if (!common.empty()) visit(document, common);
    }
  }

  int64_t longest() const {
    int64_t longest = 0;
    for (const DocumentStarts& starts : rows_) {
      for (size_t i = 1; i < starts.size(); ++i) {
        longest = std::max(longest, starts[i] - starts[i - 1]);
      }
    }
    return longest;
  }

  size_t hash(size_t seed) const {
    for (const DocumentStarts& starts : rows_) {
      for (const int64_t start : starts) seed = hash_combine(seed, static_cast<size_t>(start));
    }
    return seed;
  }

  bool operator==(const Documents&) const = default;

 private:
  std::vector<DocumentStarts> rows_;
};

class DocumentNode : public MaskNode {
 public:
  explicit DocumentNode(const at::Tensor& ids_BT) : documents_(ids_BT) {}

  bool allows(int64_t b, int64_t, int64_t q, int64_t kv) const override {
    return contains(documents_.at(b, q), {kv, kv + 1});
  }
  void bands(int64_t b, int64_t, const Band& within, MaskBound,
             std::vector<Band>& out) const override {
    documents_.for_each(b, within, [&](TokenRange, const Band& common) { out.push_back(common); });
  }
  int64_t batch_size() const override { return documents_.batch_size(); }
  TokenRange covered_queries() const override { return {0, documents_.num_tokens()}; }
  TokenRange covered_keys() const override { return {0, documents_.num_tokens()}; }
  std::string to_string() const override { return "document"; }
  bool equals(const MaskNode& other) const override {
    return documents_ == static_cast<const DocumentNode&>(other).documents_;
  }
  size_t hash() const override { return documents_.hash(7); }

 private:
  Documents documents_;
};

class PerDocumentNode : public MaskNode {
 public:
  PerDocumentNode(MaskMod rule, const at::Tensor& ids_BT)
      : rule_(std::move(rule)), documents_(ids_BT) {
    TORCH_CHECK(rule_.batch_size() == 1 || documents_.batch_size() == 1 ||
                    rule_.batch_size() == documents_.batch_size(),
                "per_document: batch rows: got ", documents_.batch_size(), " of ids_BT and ",
                rule_.batch_size(), " of ", rule_.to_string(), ", expected equal numbers or 1");
    const TokenRange longest{0, documents_.longest()};
    TORCH_CHECK(
        contains(rule_.covered_queries(), longest) && contains(rule_.covered_keys(), longest),
        "per_document: got a document of ", longest.size(), " tokens, expected at most ",
        std::min(rule_.covered_queries().end, rule_.covered_keys().end), ", which the tensors of ",
        rule_.to_string(), " cover");
  }

  bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const override {
    const TokenRange document = documents_.at(b, q);
    return contains(document, {kv, kv + 1}) &&
           rule_.node().allows(b, h, q - document.begin, kv - document.begin);
  }
  void bands(int64_t b, int64_t h, const Band& within, MaskBound bound,
             std::vector<Band>& out) const override {
    documents_.for_each(b, within, [&](TokenRange document, const Band& common) {
      const size_t first = out.size();
      const int64_t start = document.begin;
      rule_.node().bands(b, h, shifted(common, -start, -start), bound, out);
      for (size_t i = first; i < out.size(); ++i) out[i] = shifted(out[i], start, start);
    });
  }
  void fill_row(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits) const override {
    if (!opaque()) return MaskNode::fill_row(b, h, q, keys, bits);
    const TokenRange document = documents_.at(b, q);
    const TokenRange common = intersect(keys, document);
    std::fill(bits, bits + num_words(keys.size()), 0);
    if (common.empty()) return;
    std::vector<uint64_t> inner(num_words(common.size()));
    rule_.node().fill_row(b, h, q - document.begin, shifted(common, -document.begin), inner.data());
    for (int64_t i = 0; i < common.size(); ++i) {
      const int64_t bit = common.begin + i - keys.begin;
      bits[bit / 64] |= (inner[i / 64] >> (i % 64) & 1) << (bit % 64);
    }
  }
  bool opaque() const override { return rule_.node().opaque(); }
  int64_t batch_size() const override {
    return std::max(rule_.batch_size(), documents_.batch_size());
  }
  int64_t num_heads() const override { return rule_.num_heads(); }
  TokenRange covered_queries() const override { return {0, documents_.num_tokens()}; }
  TokenRange covered_keys() const override { return {0, documents_.num_tokens()}; }
  std::string to_string() const override {
    return c10::str("per_document(", rule_.to_string(), ")");
  }
  bool equals(const MaskNode& other) const override {
    const auto& that = static_cast<const PerDocumentNode&>(other);
    return rule_ == that.rule_ && documents_ == that.documents_;
  }
  size_t hash() const override { return documents_.hash(hash_combine(14, rule_.hash())); }

 private:
  MaskMod rule_;
  Documents documents_;
};

}  // namespace

MaskMod document(const at::Tensor& ids_BT) {
  return MaskMod(std::make_shared<DocumentNode>(ids_BT));
}

MaskMod per_document(const MaskMod& rule, const at::Tensor& ids_BT) {
  return MaskMod(std::make_shared<PerDocumentNode>(rule, ids_BT));
}

}  // namespace tessera
