#include "attention/op/attention_args.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cctype>

namespace tessera {

namespace {

// Names of AttentionValue's alternatives for messages, in their order.
constexpr const char* kTypeNames[] = {"true or false", "an integer", "a number", "a word",
                                      "a tensor"};

bool is_word(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_';
  });
}

std::string names_of(const AttentionArgs& args) {
  std::string names;
  for (const auto& [name, value] : args) names += (names.empty() ? "" : ", ") + name;
  return names.empty() ? "none" : names;
}

}  // namespace

std::string to_string(const AttentionValue& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* tensor = std::get_if<at::Tensor>(&value)) {
    return tensor->defined() ? c10::str(tensor->scalar_type(), tensor->sizes()) : "no tensor";
  }
  if (const auto* number = std::get_if<double>(&value)) return c10::str(*number);
  return std::to_string(std::get<int64_t>(value));
}

std::string to_string(const AttentionArgs& args) {
  std::string text;
  for (const auto& [name, value] : args) {
    text += (text.empty() ? "" : ", ") + name + "=" + to_string(value);
  }
  return text;
}

AttentionSignature::AttentionSignature(const std::vector<std::string>& names,
                                       std::any default_struct, const Read& read, Assign assign)
    : default_struct_(std::move(default_struct)), assign_(std::move(assign)) {
  for (const std::string& name : names) {
    TORCH_CHECK(is_word(name), "AttentionSignature: name: got \"", name,
                "\", expected letters, digits and \"_\"");
    for (const auto& [other, value] : defaults_) {
      TORCH_CHECK(other != name, "AttentionSignature: name: got \"", name, "\" twice");
    }
    defaults_.emplace_back(name, read(default_struct_, defaults_.size()));
  }
}

std::any AttentionSignature::bind(const AttentionArgs& args, const std::string& backend) const {
  std::any target = default_struct_;
  for (const auto& [name, given] : args) {
    const auto found =
        std::find_if(defaults_.begin(), defaults_.end(),
                     [&, &wanted = name](const auto& p) { return p.first == wanted; });
    TORCH_CHECK(found != defaults_.end(), "attention backend \"", backend, "\": arguments: got \"",
                name, "\", expected one of: ", names_of(defaults_));
    AttentionValue value = given;
    const size_t type = found->second.index();
    if (std::holds_alternative<int64_t>(value) && std::holds_alternative<double>(found->second)) {
      value = static_cast<double>(std::get<int64_t>(value));
    }
    TORCH_CHECK(value.index() == type, "attention backend \"", backend, "\": argument ", name,
                ": got ", kTypeNames[value.index()], ", ", to_string(value), ", expected ",
                kTypeNames[type]);
    assign_(target, static_cast<size_t>(found - defaults_.begin()), value);
  }
  return target;
}

}  // namespace tessera
