// The `document` leaf: packed documents of a row as runs of tokens.
#include <c10/util/Exception.h>

#include "attention/mask_node.h"

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

// Keeps where documents start, not their ids: rules that allow the same pairs are equal.
class DocumentNode : public MaskNode {
 public:
  explicit DocumentNode(const at::Tensor& ids_BT) : num_tokens_(ids_BT.size(1)) {
    const int64_t* ids = ids_BT.const_data_ptr<int64_t>();
    for (int64_t b = 0; b < ids_BT.size(0); ++b) {
      starts_.push_back(document_starts(ids + b * num_tokens_, num_tokens_, b));
    }
  }

  bool allows(int64_t b, int64_t, int64_t q, int64_t kv) const override {
    const int64_t* document = find(b, q);
    return kv >= document[0] && kv < document[1];
  }

  void bands(int64_t b, int64_t, const Band& within, std::vector<Band>& out) const override {
    const TokenRange tokens{0, num_tokens_};
    const Band covered = intersect(within, {.queries = tokens, .keys = tokens});
    if (covered.empty()) return;
    // A document's keys are its queries, so only documents that meet both ranges have pairs.
    const int64_t* first = std::max(find(b, covered.queries.begin), find(b, covered.keys.begin));
    const int64_t* last = std::min(find(b, covered.queries.end - 1), find(b, covered.keys.end - 1));
    for (const int64_t* start = first; start <= last; ++start) {
      const TokenRange document{start[0], start[1]};
      const Band common = intersect(within, {.queries = document, .keys = document});
      if (!common.empty()) out.push_back(common);
    }
  }

  TileVerdict classify(int64_t b, int64_t, TokenRange queries, TokenRange keys) const override {
    const int64_t* first = find(b, queries.begin);
    const int64_t* last = find(b, queries.end - 1);
    if (keys.end <= first[0] || keys.begin >= last[1]) return TileVerdict::kEmpty;
    const bool one_document = first == last && keys.begin >= first[0] && keys.end <= first[1];
    return one_document ? TileVerdict::kFull : TileVerdict::kMixed;
  }

  int64_t batch_size() const override { return static_cast<int64_t>(starts_.size()); }
  int64_t num_tokens() const override { return num_tokens_; }
  std::string to_string() const override { return "document"; }
  bool equals(const MaskNode& other) const override {
    return starts_ == static_cast<const DocumentNode&>(other).starts_;
  }
  size_t hash() const override {
    size_t hash = 7;
    for (const DocumentStarts& starts : starts_) {
      for (const int64_t start : starts) hash = hash_combine(hash, static_cast<size_t>(start));
    }
    return hash;
  }

 private:
  // The start of the document that holds `token`; the next element is its end.
  const int64_t* find(int64_t b, int64_t token) const {
    const DocumentStarts& starts = starts_.size() == 1 ? starts_.front() : starts_[b];
    return &*std::upper_bound(starts.begin(), starts.end(), token) - 1;
  }

  std::vector<DocumentStarts> starts_;
  int64_t num_tokens_;
};

}  // namespace

MaskMod document(const at::Tensor& ids_BT) {
  TORCH_CHECK(ids_BT.defined(), "document: got no ids_BT, expected int64 [B, T] or [T]");
  TORCH_CHECK(ids_BT.scalar_type() == at::kLong, "document: got ids_BT of dtype ",
              ids_BT.scalar_type(), ", expected Long (int64)");
  TORCH_CHECK(ids_BT.device().is_cpu(), "document: got ids_BT on ", ids_BT.device(),
              ", expected the CPU");
  TORCH_CHECK((ids_BT.dim() == 1 || ids_BT.dim() == 2) && ids_BT.numel() > 0,
              "document: got ids_BT of shape ", ids_BT.sizes(),
              ", expected [B, T] or [T] with at least one token");
  const at::Tensor rows_BT = ids_BT.dim() == 1 ? ids_BT.unsqueeze(0) : ids_BT;
  return MaskMod(std::make_shared<DocumentNode>(rows_BT.contiguous()));
}

}  // namespace tessera
