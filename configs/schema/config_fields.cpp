#include "configs/schema/config_fields.h"

#include <algorithm>
#include <cmath>

namespace tessera::configs {

namespace {

std::string number_text(double number) {
  if (number == std::floor(number)) return std::to_string(static_cast<int64_t>(number));
  return to_toml_text(ConfigValue(number));
}

std::string span_text(const Range& range) {
  if (range.low && range.high) {
    const std::string open = range.high_open ? " (excluded)" : "";
    return "from " + number_text(*range.low) + " to " + number_text(*range.high) + open;
  }
  return (range.low_open ? "greater than " : "at least ") + number_text(range.low.value_or(0));
}

std::vector<ConfigSection> make_sections() {
  std::vector<ConfigSection> sections;
  for (const auto part : {run_sections, model_sections, training_sections, parallelism_sections,
                          checkpoint_sections, execution_sections, system_sections}) {
    for (ConfigSection& section : part()) sections.push_back(std::move(section));
  }
  return sections;
}

}  // namespace

bool Range::contains(double number) const {
  if (std::any_of(also.begin(), also.end(),
                  [&](int64_t extra) { return number == static_cast<double>(extra); })) {
    return true;
  }
  if (!std::isfinite(number)) return false;
  if (low && (low_open ? number <= *low : number < *low)) return false;
  if (high && (high_open ? number >= *high : number > *high)) return false;
  return true;
}

std::string Range::text() const {
  std::string text = span_text(*this);
  for (const int64_t extra : also) text += ", or " + std::to_string(extra);
  return text;
}

Field& Field::choices(std::vector<std::string> list) {
  choice_list = std::move(list);
  return *this;
}

Field& Field::at_least(double low) {
  range = Range{low, {}, false, false, {}};
  return *this;
}

Field& Field::above(double low) {
  range = Range{low, {}, true, false, {}};
  return *this;
}

Field& Field::between(double low, double high) {
  range = Range{low, high, false, false, {}};
  return *this;
}

Field& Field::from_below(double low, double high) {
  range = Range{low, high, false, true, {}};
  return *this;
}

Field& Field::or_also(int64_t number) {
  range->also.push_back(number);
  return *this;
}

Field& Field::not_empty() {
  refuses_empty = true;
  return *this;
}

Field& Field::supports(std::vector<ConfigValue> values, std::string why) {
  support = Support::kLimited;
  supported_values = std::move(values);
  reason = std::move(why);
  return *this;
}

Field& Field::only_default(std::string why) { return supports({default_value}, std::move(why)); }

Field& Field::inert(std::string why) {
  support = Support::kInert;
  reason = std::move(why);
  return *this;
}

Field& Field::also_takes_list() {
  joins_list = true;
  return *this;
}

const std::vector<ConfigSection>& config_sections() {
  static const std::vector<ConfigSection> sections = make_sections();
  return sections;
}

const Field* find_field(const std::string& name) {
  for (const ConfigSection& section : config_sections()) {
    for (const Field& field : section.fields) {
      if (field.name() == name) return &field;
    }
  }
  return nullptr;
}

}  // namespace tessera::configs
