// Keyword arguments of registered attention functions, and the typed options they become.
//
// A backend declares a struct with defaults and names its members. Arguments by name, from a
// configuration ("band(temperature=0.5)") or from a forward (ForwardInputs::attention_args), reach
// the backend's function as that struct. Unknown names and wrong types are refused with c10::Error
// before the function is called.
//
//   struct BandArgs { double temperature = 1.0; int64_t width = 8; };
//   registry.add({.name = "band", .function = band_attention,
//                 .signature = AttentionSignature::of<BandArgs>({
//                     {"temperature", &BandArgs::temperature}, {"width", &BandArgs::width}})});
//   // in band_attention(..., const AttentionOptions& options):
//   const BandArgs& args = options.typed<BandArgs>();
#pragma once

#include <ATen/core/Tensor.h>

#include <any>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace tessera {

// The value of one argument. A tensor cannot be written in a configuration: it comes from a
// forward.
using AttentionValue = std::variant<bool, int64_t, double, std::string, at::Tensor>;

// Arguments by name, in the order given; where a name stands twice, the later value counts.
using AttentionArgs = std::vector<std::pair<std::string, AttentionValue>>;

// Text for messages: "temperature=0.5, width=8". A tensor is printed as its dtype and shape.
std::string to_string(const AttentionArgs& args);
std::string to_string(const AttentionValue& value);

// One member of a backend's struct: the name by which arguments set it, and where it is.
template <typename Struct>
struct AttentionParameter {
  std::string name;
  std::variant<bool Struct::*, int64_t Struct::*, double Struct::*, std::string Struct::*,
               at::Tensor Struct::*>
      member;
};

// The arguments that a backend's function takes: their names, types and defaults.
class AttentionSignature {
 public:
  // The signature of a function that takes no arguments.
  AttentionSignature() = default;

  // The signature of a function that reads a Struct; the values of `Struct{}` are the defaults.
  // Throws c10::Error when a name is not a word of letters, digits and "_", or stands twice.
  template <typename Struct>
  static AttentionSignature of(std::vector<AttentionParameter<Struct>> parameters);

  // Names with their defaults, which also say the types.
  const AttentionArgs& defaults() const { return defaults_; }

  // Returns the struct: the defaults, overwritten by `args` in order. An integer also serves where
  // a double is expected. The result is empty when the signature takes no arguments. Throws
  // c10::Error that names `backend`, the argument, and the names there are or the expected type.
  std::any bind(const AttentionArgs& args, const std::string& backend) const;

 private:
  // Read and write the member of a struct that has the given index.
  using Read = std::function<AttentionValue(const std::any& from, size_t index)>;
  using Assign = std::function<void(std::any& to, size_t index, const AttentionValue& value)>;
  AttentionSignature(const std::vector<std::string>& names, std::any default_struct,
                     const Read& read, Assign assign);

  AttentionArgs defaults_;
  std::any default_struct_;
  Assign assign_;  // the value has the member's type
};

template <typename Struct>
AttentionSignature AttentionSignature::of(std::vector<AttentionParameter<Struct>> parameters) {
  std::vector<std::string> names;
  for (const AttentionParameter<Struct>& each : parameters) names.push_back(each.name);
  const Read read = [parameters](const std::any& from, size_t index) {
    return std::visit(
        [&](auto member) -> AttentionValue { return std::any_cast<const Struct&>(from).*member; },
        parameters[index].member);
  };
  const Assign assign = [parameters](std::any& to, size_t index, const AttentionValue& value) {
    std::visit(
        [&](auto member) {
          auto& field = std::any_cast<Struct&>(to).*member;
          field = std::get<std::decay_t<decltype(field)>>(value);
        },
        parameters[index].member);
  };
  return {names, Struct{}, read, assign};
}

}  // namespace tessera
