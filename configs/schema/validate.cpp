// Checks of single values (by the field table), then of values against each other.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "configs/schema/setting.h"

namespace tessera::configs {

namespace {

std::string quoted_choices(const Field& field) {
  std::string text;
  for (const std::string& choice : field.choice_list) {
    text += (text.empty() ? "" : ", ") + quote_toml(choice);
  }
  return text;
}

void check_choices(const Field& field, const ConfigValue& value, const Origin& origin) {
  StringList items;
  if (const auto* text = std::get_if<std::string>(&value)) items = {*text};
  if (const auto* list = std::get_if<StringList>(&value)) items = *list;
  for (const std::string& item : items) {
    const auto& choices = field.choice_list;
    if (std::find(choices.begin(), choices.end(), item) == choices.end()) {
      throw_config_error(
          field.name(), "expected one of " + quoted_choices(field) + ", got " + quote_briefly(item),
          origin);
    }
  }
}

void check_range(const Field& field, const ConfigValue& value, const Origin& origin) {
  double number = 0.0;
  if (const auto* integer = std::get_if<int64_t>(&value)) number = static_cast<double>(*integer);
  if (const auto* real = std::get_if<double>(&value)) number = *real;
  if (!field.range->contains(number)) {
    const std::string type = field.type == ValueType::kInt ? "an integer" : "a finite number";
    throw_config_error(
        field.name(),
        "expected " + type + " " + field.range->text() + ", got " + to_toml_text(value), origin);
  }
}

void check_support(const Field& field, const ConfigValue& value, const Origin& origin) {
  const auto& values = field.supported_values;
  if (field.support != Support::kLimited ||
      std::find(values.begin(), values.end(), value) != values.end()) {
    return;
  }
  const std::string reason = field.reason.empty() ? "" : " (" + field.reason + ")";
  throw_config_error(
      field.name(),
      to_toml_text(value) + " is not supported; supported: " + list_values(values) + reason,
      origin);
}

void check_field(const Field& field, const ConfigValue& value, const Origin& origin) {
  if (!std::holds_alternative<std::monostate>(value)) {
    if (!field.choice_list.empty()) check_choices(field, value, origin);
    if (field.range) check_range(field, value, origin);
    if (field.refuses_empty && value == ConfigValue(std::string())) {
      throw_config_error(field.name(), "expected a string that is not empty, got \"\"", origin);
    }
  }
  check_support(field, value, origin);
}

// The checks that involve several keys, with what they need: the values, where they come from, the
// warnings so far.
class CrossChecks {
 public:
  CrossChecks(JobConfig& config, const Origins& origins) : config_(config), origins_(origins) {}

  std::vector<std::string> run() {
    unify("seed", &Training::seed, &Debug::seed);
    unify("deterministic", &Training::deterministic, &Debug::deterministic);
    check_dataset();
    check_batch();
    check_schedule();
    check_activation_checkpoint();
    check_loading();
    return std::move(warnings_);
  }

 private:
  [[noreturn]] void fail(const std::string& name, const std::string& message) const {
    throw_config_error(name, message, origin_of(origins_, name));
  }

  void warn(const std::string& message) { warnings_.push_back(message); }

  // Sets the two keys of one setting to one value: that of the stronger source. Different values of
  // equally strong sources are an error.
  template <typename T>
  void unify(const std::string& key, T Training::*in_training, T Debug::*in_debug) {
    T& training = config_.training.*in_training;
    T& debug = config_.debug.*in_debug;
    const auto training_source = origin_of(origins_, "training." + key).source;
    const auto debug_source = origin_of(origins_, "debug." + key).source;
    if (training_source == debug_source && training != debug) {
      fail("debug." + key, "is " + to_toml_text(to_config_value(debug)) + " while training." + key +
                               " is " + to_toml_text(to_config_value(training)) +
                               "; give one of them, or both the same value");
    }
    if (training_source > debug_source) {
      debug = training;
    } else {
      training = debug;
    }
  }

  void check_dataset() const {
    const Training& training = config_.training;
    if (training.dataset_path) return;
    const bool is_hub_name = training.dataset == "c4" || training.dataset == "c4_test";
    const std::string what =
        is_hub_name ? "nothing is downloaded, and the text of c4 is not shipped: name a folder, "
                      "file or glob of JSONL files with a field `text`"
                    : "name a folder, file or glob";
    throw_config_error("training.dataset_path",
                       "expected a path because training.dataset is " +
                           quote_toml(training.dataset) + ", got none; " + what,
                       origin_of(origins_, "training.dataset"));
  }

  void check_batch() const {
    const Training& training = config_.training;
    // The number of ranks is not known here, so the least degree stands for it; plan_layout
    // (trainer/job/job_layout.h) checks the real one.
    const int64_t degree = 1;
    const int64_t global = training.global_batch_size;
    if (global == -1 || global % (training.local_batch_size * degree) == 0) return;
    fail("training.global_batch_size",
         "expected a multiple of local_batch_size x data-parallel degree = " +
             std::to_string(training.local_batch_size) + " x " + std::to_string(degree) + ", got " +
             std::to_string(global));
  }

  void check_schedule() {
    LrScheduler& schedule = config_.lr_scheduler;
    const int64_t steps = config_.training.steps;
    if (schedule.total_steps && *schedule.total_steps < steps) {
      fail("lr_scheduler.total_steps",
           "expected at least training.steps = " + std::to_string(steps) + ", got " +
               std::to_string(*schedule.total_steps));
    }
    const int64_t total = schedule.total_steps.value_or(steps);
    const std::string total_text =
        (schedule.total_steps ? "lr_scheduler.total_steps = " : "training.steps = ") +
        std::to_string(total);
    if (schedule.warmup_steps > total) {
      warn("lr_scheduler.warmup_steps = " + std::to_string(schedule.warmup_steps) +
           " is longer than " + total_text + "; shortened to " + std::to_string(total) + " " +
           origin_of(origins_, "lr_scheduler.warmup_steps").text());
      schedule.warmup_steps = total;
    }
    if (schedule.decay_ratio) check_decay(total, total_text);
  }

  // Warns of a decay that does not fit. The schedule itself shortens it, so the ratio stays as
  // given.
  void check_decay(int64_t total, const std::string& total_text) {
    const LrScheduler& schedule = config_.lr_scheduler;
    const double decay = std::nearbyint(static_cast<double>(total) * *schedule.decay_ratio);
    const int64_t left = total - schedule.warmup_steps;
    if (decay <= static_cast<double>(left)) return;
    warn("lr_scheduler.decay_ratio = " + to_toml_text(*schedule.decay_ratio) + " of " + total_text +
         " does not fit after lr_scheduler.warmup_steps = " +
         std::to_string(schedule.warmup_steps) + "; the decay is shortened to " +
         std::to_string(left) + " steps " + origin_of(origins_, "lr_scheduler.decay_ratio").text());
  }

  void check_activation_checkpoint() const {
    const ActivationCheckpoint& section = config_.activation_checkpoint;
    const std::string& option = section.selective_ac_option;
    const std::string name = "activation_checkpoint.selective_ac_option";
    if (option == "op") {
      if (section.mode != "selective") return;
      fail(name,
           "\"op\" is not supported yet; supported: \"N\", a whole number (every N-th layer is "
           "recomputed)");
    }
    const bool digits =
        !option.empty() && option.size() <= 9 && option[0] != '0' &&
        std::all_of(option.begin(), option.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits) {
      fail(name, "expected a positive whole number in a string, such as \"2\", got " +
                     quote_briefly(option));
    }
  }

  void check_loading() {
    const Checkpoint& section = config_.checkpoint;
    if (section.initial_load_in_hf && !section.initial_load_path) {
      fail(
          "checkpoint.initial_load_in_hf",
          "is true while checkpoint.initial_load_path is none; name the Hugging Face folder there");
    }
    if (section.initial_load_path && !section.enable) {
      warn("checkpoint.initial_load_path = " + quote_toml(*section.initial_load_path) +
           " has no effect because checkpoint.enable = false: training starts from fresh weights " +
           origin_of(origins_, "checkpoint.initial_load_path").text());
    }
  }

  JobConfig& config_;
  const Origins& origins_;
  std::vector<std::string> warnings_;
};

}  // namespace

std::vector<std::string> validate(JobConfig& config, const Origins& origins) {
  for (const ConfigSection& section : config_sections()) {
    for (const Field& field : section.fields) {
      check_field(field, field.get(config), origin_of(origins, field.name()));
    }
  }
  return CrossChecks(config, origins).run();
}

}  // namespace tessera::configs
