// The field table: one entry per key of the configuration. Reading TOML, overrides, checks,
// printing, the schema and docs/configuration.md are all driven by it, so a key is added in one
// place (configs/README.md). Internal to configs/.
//
//   SectionBuilder s("training", "What is trained on.",
//                    [](auto& config) -> auto& { return config.training; });
//   s.add("steps", &Training::steps, "Optimizer steps of the run.").at_least(1);
//   return std::move(s).build();
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "configs/job_config.h"
#include "configs/schema/config_value.h"

namespace tessera::configs {

// Allowed numbers: low..high, each end open or closed or absent, and single numbers outside of it
// (-1, 0).
struct Range {
  std::optional<double> low;
  std::optional<double> high;
  bool low_open = false;
  bool high_open = false;
  std::vector<int64_t> also;

  bool contains(double number) const;
  std::string text() const;  // "at least 1, or -1"
};

// A field's support tells which well-formed values work. kAll: all of them. kLimited: only
// supported_values, and others are refused. kInert: any value is accepted, because `reason` says
// why it changes nothing.
enum class Support { kAll, kLimited, kInert };

// A key: where it is, what it means, what it may be.
struct Field {
  std::string section;  // "quantize.linear.float8"
  std::string key;      // "emulate"
  std::string doc;      // what the key means, for docs/configuration.md and the schema
  ValueType type = ValueType::kString;
  bool optional = false;
  bool joins_list = false;  // a string key that also takes a TOML array, joined by commas
  ConfigValue default_value;
  std::function<ConfigValue(const JobConfig&)> get;
  std::function<void(JobConfig&, const ConfigValue&)> set;  // a value of `type`, or unset

  std::vector<std::string> choice_list;  // empty: any string; for lists, every item
  std::optional<Range> range;            // of numbers
  bool refuses_empty = false;            // of strings

  Support support = Support::kAll;
  std::vector<ConfigValue> supported_values;
  std::string reason;  // why other values are refused, or why the key changes nothing

  std::string name() const { return section + "." + key; }

  // Constraints: a value that breaks one is wrong for ever. or_also adds a number to the range that
  // the call before it has set.
  Field& choices(std::vector<std::string> list);
  Field& at_least(double low);
  Field& above(double low);
  Field& between(double low, double high);     // ends included
  Field& from_below(double low, double high);  // low included, high not
  Field& or_also(int64_t number);
  Field& not_empty();

  // Support: a value that breaks one may work in a later version.
  Field& supports(std::vector<ConfigValue> values, std::string why = "");
  Field& only_default(std::string why = "");
  Field& inert(std::string why);

  // Lets a string key take a TOML array as well (joins_list).
  Field& also_takes_list();
};

struct ConfigSection {
  std::string name;
  std::string doc;
  std::vector<Field> fields;
};

// Fills one section. `Access` is a generic lambda from a (const) JobConfig& to a reference to the
// section's struct.
template <typename Access>
class SectionBuilder {
 public:
  SectionBuilder(std::string name, std::string doc, Access access)
      : section_{std::move(name), std::move(doc), {}}, access_(access) {}

  // Adds the key of `member`, with its type and default. The returned reference is for the chained
  // calls of the same statement only.
  template <typename Struct, typename Member>
  Field& add(const char* key, Member Struct::*member, const char* doc) {
    Field field;
    field.section = section_.name;
    field.key = key;
    field.doc = doc;
    field.optional = IsOptional<Member>::value;
    field.get = [access = access_, member](const JobConfig& config) {
      return to_config_value(access(config).*member);
    };
    field.set = [access = access_, member](JobConfig& config, const ConfigValue& value) {
      assign_config_value(access(config).*member, value);
    };
    field.type = member_type<Member>();
    const JobConfig defaults;
    field.default_value = field.get(defaults);
    return section_.fields.emplace_back(std::move(field));
  }

  ConfigSection build() && { return std::move(section_); }

 private:
  template <typename Member>
  static ValueType member_type() {
    if constexpr (IsOptional<Member>::value) {
      return member_type<typename Member::value_type>();
    } else {
      return static_cast<ValueType>(ConfigValue(Member{}).index());
    }
  }

  ConfigSection section_;
  Access access_;
};

// All sections, in the order of JobConfig. The table is built at the first call and never changed.
const std::vector<ConfigSection>& config_sections();

// The field called "section.key", or nullptr.
const Field* find_field(const std::string& name);

// The parts of the table, each in a config_fields_*.cpp, in the order of the table.
std::vector<ConfigSection> run_sections();
std::vector<ConfigSection> model_sections();
std::vector<ConfigSection> training_sections();
std::vector<ConfigSection> parallelism_sections();
std::vector<ConfigSection> checkpoint_sections();
std::vector<ConfigSection> execution_sections();
std::vector<ConfigSection> system_sections();

}  // namespace tessera::configs
