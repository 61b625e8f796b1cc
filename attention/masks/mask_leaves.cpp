// Leaves without tensors: full, none, causal, sliding_window, chunked, first_tokens.
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include "attention/masks/mask_node.h"

namespace tessera {

namespace {

// The band of all pairs between two diagonals, within another band.
Band diagonals(const Band& within, int64_t begin, int64_t end) {
  return {.queries = within.queries, .keys = within.keys, .diag_begin = begin, .diag_end = end};
}

class FullNode : public MaskNode {
 public:
  bool allows(int64_t, int64_t, int64_t, int64_t) const override { return true; }
  void bands(int64_t, int64_t, const Band& within, MaskBound,
             std::vector<Band>& out) const override {
    out.push_back(within);
  }
  std::string to_string() const override { return "full"; }
  bool equals(const MaskNode&) const override { return true; }
  size_t hash() const override { return 1; }
};

class NoneNode : public MaskNode {
 public:
  bool allows(int64_t, int64_t, int64_t, int64_t) const override { return false; }
  void bands(int64_t, int64_t, const Band&, MaskBound, std::vector<Band>&) const override {}
  std::string to_string() const override { return "none"; }
  bool equals(const MaskNode&) const override { return true; }
  size_t hash() const override { return 2; }
};

class CausalNode : public MaskNode {
 public:
  bool allows(int64_t, int64_t, int64_t q, int64_t kv) const override { return kv <= q; }
  void bands(int64_t, int64_t, const Band& within, MaskBound,
             std::vector<Band>& out) const override {
    append_common(within, diagonals(within, -Band::kUnbounded, 1), out);
  }
  std::string to_string() const override { return "causal"; }
  bool equals(const MaskNode&) const override { return true; }
  size_t hash() const override { return 3; }
};

class WindowNode : public MaskNode {
 public:
  explicit WindowNode(const Window& window)
      : window_(window),
        diag_begin_(window.left ? -*window.left : -Band::kUnbounded),
        diag_end_(window.right ? *window.right + 1 : Band::kUnbounded) {}

  bool allows(int64_t, int64_t, int64_t q, int64_t kv) const override {
    return kv - q >= diag_begin_ && kv - q < diag_end_;
  }
  void bands(int64_t, int64_t, const Band& within, MaskBound,
             std::vector<Band>& out) const override {
    append_common(within, diagonals(within, diag_begin_, diag_end_), out);
  }
  std::string to_string() const override {
    std::vector<std::string> sides;
    if (window_.left) sides.push_back(c10::str("left=", *window_.left));
    if (window_.right) sides.push_back(c10::str("right=", *window_.right));
    return sides.empty() ? "window" : c10::str("window(", c10::Join(", ", sides), ")");
  }
  bool equals(const MaskNode& other) const override {
    return window_ == static_cast<const WindowNode&>(other).window_;
  }
  size_t hash() const override { return hash_combine(hash_combine(8, diag_begin_), diag_end_); }

 private:
  Window window_;
  int64_t diag_begin_;
  int64_t diag_end_;
};

class ChunkedNode : public MaskNode {
 public:
  explicit ChunkedNode(int64_t size) : size_(size) {}

  bool allows(int64_t, int64_t, int64_t q, int64_t kv) const override {
    return chunk(q) == chunk(kv);
  }
  void bands(int64_t, int64_t, const Band& within, MaskBound,
             std::vector<Band>& out) const override {
    const int64_t first = std::max(chunk(within.queries.begin), chunk(within.keys.begin));
    const int64_t last = std::min(chunk(within.queries.end - 1), chunk(within.keys.end - 1));
    for (int64_t i = first; i <= last; ++i) {
      const TokenRange tokens{i * size_, (i + 1) * size_};
      append_common(within, {.queries = tokens, .keys = tokens}, out);
    }
  }
  std::string to_string() const override { return c10::str("chunked(size=", size_, ")"); }
  bool equals(const MaskNode& other) const override {
    return size_ == static_cast<const ChunkedNode&>(other).size_;
  }
  size_t hash() const override { return hash_combine(9, size_); }

 private:
  // Rounds down for negative tokens as well.
  int64_t chunk(int64_t token) const {
    return token >= 0 ? token / size_ : -((-token + size_ - 1) / size_);
  }

  int64_t size_;
};

class FirstTokensNode : public MaskNode {
 public:
  explicit FirstTokensNode(int64_t n) : n_(n) {}

  bool allows(int64_t, int64_t, int64_t, int64_t kv) const override { return kv < n_; }
  void bands(int64_t, int64_t, const Band& within, MaskBound,
             std::vector<Band>& out) const override {
    append_common(within, {.queries = within.queries, .keys = {kAllTokens.begin, n_}}, out);
  }
  std::string to_string() const override { return c10::str("first_tokens(n=", n_, ")"); }
  bool equals(const MaskNode& other) const override {
    return n_ == static_cast<const FirstTokensNode&>(other).n_;
  }
  size_t hash() const override { return hash_combine(10, n_); }

 private:
  int64_t n_;
};

// Lengths beyond this would overflow sums with token indices, and mean "unbounded" anyway.
void check_length(const char* what, int64_t value, int64_t lowest) {
  TORCH_CHECK(value >= lowest && value <= Band::kUnbounded / 4, what, ": got ", value,
              ", expected ", lowest, " to 2^46");
}

}  // namespace

MaskMod causal() { return MaskMod(std::make_shared<CausalNode>()); }
MaskMod full() { return MaskMod(std::make_shared<FullNode>()); }
MaskMod none() { return MaskMod(std::make_shared<NoneNode>()); }

MaskMod sliding_window(const Window& window) {
  if (window.left) check_length("sliding_window: left", *window.left, 0);
  if (window.right) check_length("sliding_window: right", *window.right, 0);
  return MaskMod(std::make_shared<WindowNode>(window));
}

MaskMod chunked(int64_t size) {
  check_length("chunked: size", size, 1);
  return MaskMod(std::make_shared<ChunkedNode>(size));
}

MaskMod first_tokens(int64_t n) {
  check_length("first_tokens: n", n, 0);
  return MaskMod(std::make_shared<FirstTokensNode>(n));
}

}  // namespace tessera
