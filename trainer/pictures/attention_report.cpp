#include "trainer/pictures/attention_report.h"

#include <c10/core/DeviceType.h>
#include <c10/util/StringUtil.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace tessera {
namespace {

using nlohmann::ordered_json;

std::vector<std::string> dtypes_of(const AttentionCapabilities& can) {
  std::vector<std::string> names;
  for (const at::ScalarType dtype : can.dtypes) names.emplace_back(toString(dtype));
  return names;
}

std::vector<std::string> devices_of(const AttentionCapabilities& can) {
  std::vector<std::string> names;
  for (const at::DeviceType device : can.devices) {
    names.push_back(c10::DeviceTypeName(device, /*lower_case=*/true));
  }
  return names;
}

std::vector<std::string> features_of(const AttentionCapabilities& can) {
  std::vector<std::string> names;
  for (const AttentionFeature feature : all_attention_features()) {
    if (can.has(feature)) names.emplace_back(to_string(feature));
  }
  return names;
}

std::string or_word(const std::vector<std::string>& items, const char* word) {
  return items.empty() ? word : c10::Join(", ", items);
}

std::string parameters_text(const MaskRule& rule) {
  std::vector<std::string> names;
  if (rule.takes_rule) names.emplace_back("rule");
  for (const MaskParameter& parameter : rule.parameters) names.push_back(parameter.name);
  return names.empty() ? "" : "(" + c10::Join(", ", names) + ")";
}

void write_backend(std::ostream& text, const AttentionBackend& backend) {
  const AttentionCapabilities& can = backend.capabilities;
  text << backend.name;
  if (!backend.aliases.empty()) text << " (also " << c10::Join(", ", backend.aliases) << ")";
  text << "\n  " << backend.description << "\n  mask form  " << backend.mask_form
       << "\n  dtypes     " << or_word(dtypes_of(can), "none") << "\n  devices    "
       << or_word(devices_of(can), "any") << "\n  features   " << or_word(features_of(can), "none")
       << "\n";
  const AttentionArgs& arguments = backend.signature.defaults();
  if (!arguments.empty()) text << "  arguments  " << to_string(arguments) << "\n";
}

void write_line(std::ostream& text, const std::string& name, const std::string& description) {
  constexpr size_t kWidth = 22;
  text << "  " << name << std::string(name.size() < kWidth ? kWidth - name.size() : 1, ' ')
       << description << "\n";
}

ordered_json arguments_json(const AttentionArgs& arguments) {
  ordered_json json = ordered_json::object();
  for (const auto& [name, value] : arguments) {
    std::visit(
        [&, &key = name](const auto& given) {
          if constexpr (std::is_same_v<std::decay_t<decltype(given)>, at::Tensor>) {
            json[key] = nullptr;
          } else {
            json[key] = given;
          }
        },
        value);
  }
  return json;
}

ordered_json rule_json(const MaskRule& rule) {
  ordered_json parameters = ordered_json::array();
  for (const MaskParameter& parameter : rule.parameters) {
    parameters.push_back({{"name", parameter.name}, {"required", parameter.required}});
  }
  return {{"name", rule.name},
          {"description", rule.description},
          {"takes_rule", rule.takes_rule},
          {"parameters", parameters}};
}

}  // namespace

std::string attention_text(const Registries& registries) {
  std::ostringstream text;
  for (const std::string& name : registries.attention.names()) {
    write_backend(text, registries.attention.get(name));
  }
  text << "mask forms\n";
  for (const std::string& name : registries.masks.form_names()) {
    write_line(text, name, registries.masks.form(name).description);
  }
  text << "mask rules\n";
  for (const std::string& name : registries.masks.rule_names()) {
    const MaskRule& rule = *registries.masks.find_rule(name);
    write_line(text, name + parameters_text(rule), rule.description);
  }
  return text.str();
}

std::string attention_json(const Registries& registries) {
  ordered_json backends = ordered_json::array();
  for (const std::string& name : registries.attention.names()) {
    const AttentionBackend& backend = registries.attention.get(name);
    backends.push_back({{"name", backend.name},
                        {"aliases", backend.aliases},
                        {"description", backend.description},
                        {"mask_form", backend.mask_form},
                        {"dtypes", dtypes_of(backend.capabilities)},
                        {"devices", devices_of(backend.capabilities)},
                        {"features", features_of(backend.capabilities)},
                        {"arguments", arguments_json(backend.signature.defaults())}});
  }
  ordered_json forms = ordered_json::array();
  for (const std::string& name : registries.masks.form_names()) {
    forms.push_back({{"name", name}, {"description", registries.masks.form(name).description}});
  }
  ordered_json rules = ordered_json::array();
  for (const std::string& name : registries.masks.rule_names()) {
    rules.push_back(rule_json(*registries.masks.find_rule(name)));
  }
  const ordered_json all = {{"backends", backends}, {"mask_forms", forms}, {"mask_rules", rules}};
  return all.dump() + "\n";
}

}  // namespace tessera
