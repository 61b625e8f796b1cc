#include "trainer/metrics/metrics.h"

#include <c10/util/Exception.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>
#include <variant>

#include "trainer/support/text_format.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;

// A member of StepRecord that the table has not would be missing in files. No member is padded.
consteval size_t size_of_fields() {
  size_t size = 0;
  for (const MetricField& field : kMetricFields) {
    size += std::visit([](auto member) { return sizeof(std::declval<StepRecord>().*member); },
                       field.member);
  }
  return size;
}
static_assert(size_of_fields() == sizeof(StepRecord), "a member of StepRecord has no MetricField");

Json json_of(int64_t value) { return value; }
Json json_of(double value) { return std::isfinite(value) ? Json(value) : Json(); }
Json json_of(std::optional<double> value) { return value ? json_of(*value) : Json(); }

class RecordReader {
 public:
  RecordReader(const Json& object, const std::string& where) : object_(object), where_(where) {
    TORCH_CHECK(object.is_object(), where,
                ": not a metrics record, expected a JSON object with step, loss, ...");
  }

  void read(const char* key, int64_t& value) const {
    const Json& found = required(key);
    TORCH_CHECK(found.is_number_integer(), where_, ": ", key, " is ", found.dump(),
                ", expected an integer");
    value = found.get<int64_t>();
  }

  void read(const char* key, std::optional<double>& value) const {
    const auto found = object_.find(key);
    value = std::nullopt;
    if (found == object_.end() || found->is_null()) return;
    TORCH_CHECK(found->is_number(), where_, ": ", key, " is ", found->dump(),
                ", expected a number or null");
    value = found->get<double>();
  }

  void read(const char* key, double& value) const {
    required(key);
    std::optional<double> number;
    read(key, number);
    value = number.value_or(std::numeric_limits<double>::quiet_NaN());
  }

 private:
  const Json& required(const char* key) const {
    const auto found = object_.find(key);
    TORCH_CHECK(found != object_.end(), where_, ": the metrics record has no ", key);
    return *found;
  }

  const Json& object_;
  const std::string& where_;
};

Json parse_or_discard(std::string_view line) {
  return Json::parse(line, /*callback=*/nullptr, /*allow_exceptions=*/false);
}

std::string location(const std::string& path, size_t line_number) {
  return path + ":" + std::to_string(line_number);
}

// Calls `use(text, json, line number)` for every line; a last line that is not JSON is passed over,
// and true returned.
template <typename Use>
bool for_each_line(const std::string& path, const Use& use) {
  // Other kinds of file (a device, a pipe) may never end.
  TORCH_CHECK(std::filesystem::is_regular_file(path), path,
              ": no such metrics file (job.dump_folder)");
  std::ifstream file(path, std::ios::binary);
  TORCH_CHECK(file.is_open(), path, ": the metrics file cannot be read (job.dump_folder)");
  size_t line_number = 0;
  for (std::string line; std::getline(file, line);) {
    ++line_number;
    const Json json = parse_or_discard(line);
    if (!json.is_discarded()) {
      use(line, json, line_number);
      continue;
    }
    if (file.peek() == std::ifstream::traits_type::eof()) return true;
    TORCH_CHECK(false, location(path, line_number),
                ": not a metrics record, expected one JSON object on the line");
  }
  return false;
}

int64_t count_lines(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  int64_t num_lines = 0;
  for (std::string line; std::getline(file, line);) ++num_lines;
  return num_lines;
}

// Removes what a run that continues after `last_step` will write again; returns the number of lines
// removed.
int64_t drop_later_records(const std::string& path, int64_t last_step) {
  TORCH_CHECK(last_step >= 0, "last_step is ", last_step, ", expected at least 0");
  const auto status = std::filesystem::status(path);
  if (!std::filesystem::exists(status)) return 0;
  TORCH_CHECK(std::filesystem::is_regular_file(status), "job.dump_folder: ", path,
              " is not a regular file; metrics cannot be written there");
  if (last_step == 0) {
    // A new run replaces whatever is there, readable or not.
    const int64_t num_dropped = count_lines(path);
    if (num_dropped > 0) write_file_atomically(path, "");
    return num_dropped;
  }
  std::string kept;
  int64_t num_dropped = 0;
  const bool torn =
      for_each_line(path, [&](const std::string& text, const Json& json, size_t line_number) {
        const std::string where = location(path, line_number);
        int64_t step = 0;
        RecordReader(json, where).read("step", step);
        const bool keep = step <= last_step;
        if (keep) kept.append(text).append("\n");
        if (!keep) ++num_dropped;
      });
  if (torn) ++num_dropped;
  // The size also differs when the last record has lost its newline.
  if (kept.size() != std::filesystem::file_size(path)) write_file_atomically(path, kept);
  return num_dropped;
}

std::string memory_text(const StepRecord& record, const ConsoleLineOptions& options) {
  if (!record.memory_gib) return "N/A";
  const std::string gib = fixed(*record.memory_gib, 2, 5) + "GiB";
  if (!options.memory_total_gib || !(*options.memory_total_gib > 0)) return gib;
  return gib + "(" + fixed(100 * *record.memory_gib / *options.memory_total_gib, 2) + "%)";
}

}  // namespace

std::string metrics_path(const std::string& dump_folder) { return dump_folder + "/metrics.jsonl"; }

std::string to_json_line(const StepRecord& record) {
  Json json;
  for (const MetricField& field : kMetricFields) {
    json[field.key] =
        std::visit([&](auto member) { return json_of(record.*member); }, field.member);
  }
  return json.dump();
}

StepRecord from_json_line(std::string_view line, const std::string& where) {
  const Json json = parse_or_discard(line);
  const RecordReader reader(json, where);
  StepRecord record;
  for (const MetricField& field : kMetricFields) {
    std::visit([&](auto member) { reader.read(field.key, record.*member); }, field.member);
  }
  return record;
}

std::vector<StepRecord> read_metrics(const std::string& path) {
  std::vector<StepRecord> records;
  for_each_line(path, [&](const std::string& text, const Json&, size_t line_number) {
    records.push_back(from_json_line(text, location(path, line_number)));
  });
  return records;
}

MetricsFile::MetricsFile(const std::string& path, int64_t last_step)
    : num_dropped_(drop_later_records(path, last_step)), file_(path) {}

void MetricsFile::write(const StepRecord& record) { file_.append(to_json_line(record) + "\n"); }

std::string console_line(const StepRecord& record, const ConsoleLineOptions& options) {
  const auto paint = [&](const char* code) { return std::string(options.color ? code : ""); };
  // Orange and turquoise are TorchTitan's own 24-bit colours, the others come from the terminal's
  // palette.
  return paint("\x1b[31m") + "step: " + pad_left(std::to_string(record.step), 2) + "  " +
         paint("\x1b[32m") + "loss: " + fixed(record.loss, 5, 8) + "  " +
         paint("\x1b[38;2;180;60;0m") + "grad_norm: " + fixed(record.grad_norm, 4, 7) + "  " +
         paint("\x1b[38;2;54;234;195m") + "memory: " + memory_text(record, options) + "  " +  //
         paint("\x1b[34m") + "tps: " + with_commas(std::llround(record.tps)) + "  " +
         paint("\x1b[36m") + "tflops: " + (record.tflops ? fixed(*record.tflops, 2) : "N/A") +
         "  " + paint("\x1b[35m") + "mfu: " + (record.mfu ? fixed(*record.mfu, 2) + "%" : "N/A") +
         paint("\x1b[39m");
}

}  // namespace tessera
