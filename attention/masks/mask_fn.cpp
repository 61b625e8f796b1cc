#include "attention/masks/mask_fn.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <cctype>

#include "attention/masks/mask_node.h"

namespace tessera {

namespace {

class MaskFnNode : public MaskNode {
 public:
  MaskFnNode(std::string name, MaskParams params, MaskRowFn fill_row)
      : name_(std::move(name)), params_(std::move(params)), fill_row_(std::move(fill_row)) {}

  bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const override {
    uint64_t word = 0;
    fill_row_(b, h, q, {kv, kv + 1}, &word);
    return (word & 1) != 0;
  }
  void bands(int64_t, int64_t, const Band& within, MaskBound bound,
             std::vector<Band>& out) const override {
    if (bound == MaskBound::kPossible) out.push_back(within);
  }
  void fill_row(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits) const override {
    fill_row_(b, h, q, keys, bits);
  }
  bool opaque() const override { return true; }
  std::string to_string() const override {
    std::vector<std::string> arguments;
    for (const auto& [name, value] : params_) arguments.push_back(c10::str(name, "=", value));
    return arguments.empty() ? name_ : c10::str(name_, "(", c10::Join(", ", arguments), ")");
  }
  bool equals(const MaskNode& other) const override {
    const auto& that = static_cast<const MaskFnNode&>(other);
    return name_ == that.name_ && params_ == that.params_;
  }
  size_t hash() const override {
    size_t hash = hash_combine(15, std::hash<std::string>()(name_));
    for (const auto& [name, value] : params_) {
      hash = hash_combine(hash_combine(hash, std::hash<std::string>()(name)), value);
    }
    return hash;
  }

 private:
  std::string name_;
  MaskParams params_;
  MaskRowFn fill_row_;
};

}  // namespace

MaskMod mask_row_fn(std::string name, MaskParams params, MaskRowFn fill_row) {
  const bool is_word = std::all_of(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
  TORCH_CHECK(!name.empty() && is_word, "mask_fn: name: got \"", name,
              "\", expected letters, digits and \"_\"");
  TORCH_CHECK(fill_row != nullptr, "mask_fn: function of \"", name, "\": got none");
  return MaskMod(
      std::make_shared<MaskFnNode>(std::move(name), std::move(params), std::move(fill_row)));
}

}  // namespace tessera
