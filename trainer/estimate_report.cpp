// The table and the JSON of trainer/estimate.h.
#include <nlohmann/json.hpp>
#include <sstream>

#include "trainer/estimate.h"
#include "trainer/text_format.h"

namespace tessera {
namespace {

constexpr size_t kNameWidth = 28, kBytesWidth = 12;

std::string bytes_text(int64_t num_bytes) {
  const auto value = static_cast<double>(num_bytes);
  if (num_bytes >= int64_t{1} << 30) return fixed(value / (int64_t{1} << 30), 2) + " GiB";
  if (num_bytes >= int64_t{1} << 20) return fixed(value / (int64_t{1} << 20), 2) + " MiB";
  return fixed(value / (int64_t{1} << 10), 2) + " KiB";
}

std::string line(const std::string& name, int64_t num_bytes, const std::string& note) {
  std::string text = "  " + pad_right(name, kNameWidth);
  text += pad_left(bytes_text(num_bytes), kBytesWidth);
  if (!note.empty()) text += "   " + note;
  return text + "\n";
}

}  // namespace

std::string estimate_text(const Estimate& estimate) {
  const JobLayout& layout = estimate.layout;
  std::ostringstream text;
  text << estimate.model << ", " << short_count(estimate.num_parameters) << " parameters, on "
       << layout.num_ranks << (layout.num_ranks == 1 ? " rank: " : " ranks: ")
       << layout.dims.to_string() << "\n"
       << "a step: " << layout.num_microbatches << " x " << estimate.rows << " rows of "
       << with_commas(estimate.seq_len) << " tokens on " << layout.num_data_ranks
       << " data ranks\n\nmemory of a rank\n";
  for (const NamedBytes& item : estimate.memory) text << line(item.name, item.num_bytes, item.note);
  text << line("total", estimate.total_memory(), "loss and layer at work are not there at once")
       << "\nsent by a rank in a step\n";
  int64_t total = 0;
  for (const AxisTraffic& axis : estimate.traffic) {
    total += axis.num_bytes();
    if (axis.num_ranks == 1) continue;
    for (const NamedBytes& operation : axis.operations) {
      if (operation.num_bytes == 0) continue;
      text << line(axis.axis + " (" + std::to_string(axis.num_ranks) + ") " + operation.name,
                   operation.num_bytes, operation.note);
    }
  }
  text << line("total", total, "");
  return text.str();
}

std::string estimate_json(const Estimate& estimate) {
  nlohmann::ordered_json json;
  json["model"] = estimate.model;
  json["num_parameters"] = estimate.num_parameters;
  json["num_ranks"] = estimate.layout.num_ranks;
  for (const Axis axis : kAllAxes) {
    json["layout"][to_string(axis)] = estimate.layout.dims.degree(axis);
  }
  json["num_microbatches"] = estimate.layout.num_microbatches;
  for (const NamedBytes& item : estimate.memory) json["memory"][item.name] = item.num_bytes;
  json["memory"]["total"] = estimate.total_memory();
  for (const AxisTraffic& axis : estimate.traffic) {
    nlohmann::ordered_json& of_axis = json["traffic"][axis.axis];
    for (const NamedBytes& operation : axis.operations) {
      of_axis[operation.name] = operation.num_bytes;
    }
    of_axis["total"] = axis.num_bytes();
  }
  return json.dump() + "\n";
}

}  // namespace tessera
