#include "models/hf/tensor_mismatches.h"

#include <c10/util/Exception.h>

namespace tessera {
namespace {

constexpr size_t kShown = 20;

std::string listed(const std::string& title, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  std::string text = "\n  " + title + " (" + std::to_string(names.size()) + "):";
  for (size_t i = 0; i < names.size() && i < kShown; ++i) text += (i > 0 ? ", " : " ") + names[i];
  if (names.size() > kShown) {
    text += ", and " + std::to_string(names.size() - kShown) + " more";
  }
  return text;
}

}  // namespace

void TensorMismatches::add_missing(const std::string& name) { missing_.push_back(name); }

void TensorMismatches::add_unexpected(const std::string& name) { unexpected_.push_back(name); }

void TensorMismatches::add_different(const std::string& name, const std::string& got,
                                     const std::string& expected) {
  different_.push_back(name + " (got " + got + ", expected " + expected + ")");
}

void TensorMismatches::check(const std::string& where) const {
  TORCH_CHECK(missing_.empty() && unexpected_.empty() && different_.empty(), where,
              ": the tensors are not those of the model", listed("missing", missing_),
              listed("unexpected", unexpected_), listed("of another shape or dtype", different_));
}

}  // namespace tessera
