// Leaves that carry a tensor of lengths, ids or flags: prefix_lm, key_padding, block_ids.
#include <c10/util/Exception.h>

#include <map>

#include "attention/masks/mask_node.h"
#include "attention/masks/mask_tensors.h"

namespace tessera {

namespace {

class PrefixLmNode : public MaskNode {
 public:
  explicit PrefixLmNode(std::vector<int64_t> lengths_B) : lengths_B_(std::move(lengths_B)) {}

  bool allows(int64_t b, int64_t, int64_t q, int64_t kv) const override {
    return kv <= q || kv < batch_row(lengths_B_, b);
  }
  void bands(int64_t b, int64_t, const Band& within, MaskBound,
             std::vector<Band>& out) const override {
    const int64_t length = batch_row(lengths_B_, b);
    const TokenRange prefix{kAllTokens.begin, length};
    const TokenRange suffix{length, kAllTokens.end};
    append_common(within, {.queries = within.queries, .keys = prefix}, out);
    append_common(within, {.queries = within.queries, .keys = suffix, .diag_end = 1}, out);
  }
  int64_t batch_size() const override { return static_cast<int64_t>(lengths_B_.size()); }
  std::string to_string() const override { return "prefix_lm"; }
  bool equals(const MaskNode& other) const override {
    return lengths_B_ == static_cast<const PrefixLmNode&>(other).lengths_B_;
  }
  size_t hash() const override {
    size_t hash = 11;
    for (const int64_t length : lengths_B_) hash = hash_combine(hash, length);
    return hash;
  }

 private:
  std::vector<int64_t> lengths_B_;
};

// Tokens of equal ids in a row.
struct IdRun {
  TokenRange tokens;
  int64_t id = 0;
  bool operator==(const IdRun&) const = default;
};

// Runs of one row of ids; negative ids have none.
std::vector<IdRun> id_runs(const int64_t* ids, int64_t num_tokens) {
  std::vector<IdRun> runs;
  for (int64_t t = 0; t < num_tokens; ++t) {
    if (ids[t] < 0) continue;
    if (!runs.empty() && runs.back().id == ids[t] && runs.back().tokens.end == t) {
      ++runs.back().tokens.end;
    } else {
      runs.push_back({{t, t + 1}, ids[t]});
    }
  }
  return runs;
}

// The first run of a row that ends after `token`.
std::vector<IdRun>::const_iterator first_run_after(const std::vector<IdRun>& runs, int64_t token) {
  return std::partition_point(runs.begin(), runs.end(),
                              [&](const IdRun& run) { return run.tokens.end <= token; });
}

size_t hash_runs(size_t seed, const std::vector<std::vector<IdRun>>& rows) {
  for (const std::vector<IdRun>& runs : rows) {
    for (const IdRun& run : runs) {
      seed =
          hash_combine(hash_combine(hash_combine(seed, run.tokens.begin), run.tokens.end), run.id);
    }
  }
  return seed;
}

class KeyPaddingNode : public MaskNode {
 public:
  explicit KeyPaddingNode(const at::Tensor& valid_BT) : num_tokens_(valid_BT.size(1)) {
    const at::Tensor ids_BT = valid_BT.to(at::kLong).sub(1);  // valid: 0, padding: -1
    for (int64_t b = 0; b < ids_BT.size(0); ++b) {
      rows_.push_back(id_runs(ids_BT.const_data_ptr<int64_t>() + b * num_tokens_, num_tokens_));
    }
  }

  bool allows(int64_t b, int64_t, int64_t, int64_t kv) const override {
    const std::vector<IdRun>& runs = batch_row(rows_, b);
    const auto run = first_run_after(runs, kv);
    return run != runs.end() && run->tokens.begin <= kv;
  }
  void bands(int64_t b, int64_t, const Band& within, MaskBound,
             std::vector<Band>& out) const override {
    const std::vector<IdRun>& runs = batch_row(rows_, b);
    for (auto run = first_run_after(runs, within.keys.begin);
         run != runs.end() && run->tokens.begin < within.keys.end; ++run) {
      append_common(within, {.queries = within.queries, .keys = run->tokens}, out);
    }
  }
  int64_t batch_size() const override { return static_cast<int64_t>(rows_.size()); }
  TokenRange covered_keys() const override { return {0, num_tokens_}; }
  std::string to_string() const override { return "key_padding"; }
  bool equals(const MaskNode& other) const override {
    const auto& that = static_cast<const KeyPaddingNode&>(other);
    return num_tokens_ == that.num_tokens_ && rows_ == that.rows_;
  }
  size_t hash() const override { return hash_runs(12 + num_tokens_, rows_); }

 private:
  int64_t num_tokens_;
  std::vector<std::vector<IdRun>> rows_;
};

class BlockIdsNode : public MaskNode {
 public:
  explicit BlockIdsNode(const at::Tensor& ids_BT) : num_tokens_(ids_BT.size(1)) {
    const int64_t* ids = ids_BT.const_data_ptr<int64_t>();
    for (int64_t b = 0; b < ids_BT.size(0); ++b) {
      rows_.push_back(renumbered(id_runs(ids + b * num_tokens_, num_tokens_)));
      runs_of_id_.push_back(by_id(rows_.back()));
    }
  }

  bool allows(int64_t b, int64_t, int64_t q, int64_t kv) const override {
    const int64_t id = id_of(b, q);
    return id >= 0 && id == id_of(b, kv);
  }
  void bands(int64_t b, int64_t, const Band& within, MaskBound,
             std::vector<Band>& out) const override {
    const std::vector<IdRun>& runs = batch_row(rows_, b);
    for (auto run = first_run_after(runs, within.queries.begin);
         run != runs.end() && run->tokens.begin < within.queries.end; ++run) {
      for (const int64_t other : batch_row(runs_of_id_, b)[run->id]) {
        append_common(within, {.queries = run->tokens, .keys = runs[other].tokens}, out);
      }
    }
  }
  int64_t batch_size() const override { return static_cast<int64_t>(rows_.size()); }
  TokenRange covered_queries() const override { return {0, num_tokens_}; }
  TokenRange covered_keys() const override { return {0, num_tokens_}; }
  std::string to_string() const override { return "block_ids"; }
  bool equals(const MaskNode& other) const override {
    const auto& that = static_cast<const BlockIdsNode&>(other);
    return num_tokens_ == that.num_tokens_ && rows_ == that.rows_;
  }
  size_t hash() const override { return hash_runs(13 + num_tokens_, rows_); }

 private:
  // Ids in order of their first run, so that rules that allow the same pairs are equal.
  static std::vector<IdRun> renumbered(std::vector<IdRun> runs) {
    std::map<int64_t, int64_t> new_id;
    for (IdRun& run : runs) {
      run.id = new_id.emplace(run.id, static_cast<int64_t>(new_id.size())).first->second;
    }
    return runs;
  }

  // Indices of the runs of each id.
  static std::vector<std::vector<int64_t>> by_id(const std::vector<IdRun>& runs) {
    std::vector<std::vector<int64_t>> indices;
    for (size_t i = 0; i < runs.size(); ++i) {
      if (runs[i].id == static_cast<int64_t>(indices.size())) indices.emplace_back();
      indices[runs[i].id].push_back(static_cast<int64_t>(i));
    }
    return indices;
  }

  int64_t id_of(int64_t b, int64_t token) const {
    const std::vector<IdRun>& runs = batch_row(rows_, b);
    const auto run = first_run_after(runs, token);
    return run != runs.end() && run->tokens.begin <= token ? run->id : -1;
  }

  int64_t num_tokens_;
  std::vector<std::vector<IdRun>> rows_;
  std::vector<std::vector<std::vector<int64_t>>> runs_of_id_;
};

}  // namespace

at::Tensor checked_rows(const char* what, const at::Tensor& tensor, at::ScalarType dtype,
                        int64_t dims) {
  const char* expected_dtype = dtype == at::kLong ? "int64" : "bool";
  const char* expected_shape = dims == 2 ? "[B, T] or [T]" : "[B]";
  TORCH_CHECK(tensor.defined(), what, ": got no tensor, expected ", expected_dtype, " ",
              expected_shape);
  TORCH_CHECK(tensor.scalar_type() == dtype, what, ": got dtype ", tensor.scalar_type(),
              ", expected ", dtype, " (", expected_dtype, ")");
  TORCH_CHECK(tensor.device().is_cpu(), what, ": got a tensor on ", tensor.device(),
              ", expected the CPU");
  const bool one_row = dims == 2 && tensor.dim() == 1;
  TORCH_CHECK((tensor.dim() == dims || one_row) && tensor.numel() > 0, what, ": got shape ",
              tensor.sizes(), ", expected ", expected_shape, " with at least one element");
  return (one_row ? tensor.unsqueeze(0) : tensor).contiguous();
}

MaskMod prefix_lm(const at::Tensor& prefix_lengths_B) {
  const at::Tensor lengths_B =
      checked_rows("prefix_lm: prefix_lengths_B", prefix_lengths_B, at::kLong, 1);
  const int64_t* lengths = lengths_B.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < lengths_B.size(0); ++b) {
    TORCH_CHECK(lengths[b] >= 0 && lengths[b] <= Band::kUnbounded / 4,
                "prefix_lm: prefix_lengths_B[", b, "]: got ", lengths[b], ", expected 0 to 2^46");
  }
  return MaskMod(
      std::make_shared<PrefixLmNode>(std::vector<int64_t>(lengths, lengths + lengths_B.size(0))));
}

MaskMod key_padding(const at::Tensor& valid_BT) {
  return MaskMod(std::make_shared<KeyPaddingNode>(
      checked_rows("key_padding: valid_BT", valid_BT, at::kBool, 2)));
}

MaskMod block_ids(const at::Tensor& ids_BT) {
  return MaskMod(
      std::make_shared<BlockIdsNode>(checked_rows("block_ids: ids_BT", ids_BT, at::kLong, 2)));
}

}  // namespace tessera
