// The table and the JSON of trainer/estimate/estimate.h.
#include <nlohmann/json.hpp>
#include <sstream>

#include "trainer/estimate/estimate.h"
#include "trainer/estimate/estimate_format.h"
#include "trainer/support/text_format.h"

namespace tessera {

std::string bytes_text(int64_t num_bytes) {
  const auto value = static_cast<double>(num_bytes);
  if (num_bytes >= int64_t{1} << 30) return fixed(value / (int64_t{1} << 30), 2) + " GiB";
  if (num_bytes >= int64_t{1} << 20) return fixed(value / (int64_t{1} << 20), 2) + " MiB";
  return fixed(value / (int64_t{1} << 10), 2) + " KiB";
}

namespace {

constexpr size_t kNameWidth = 28, kBytesWidth = 12;

std::string line(const std::string& name, int64_t num_bytes, const std::string& note) {
  std::string text = "  " + pad_right(name, kNameWidth);
  text += pad_left(bytes_text(num_bytes), kBytesWidth);
  if (!note.empty()) text += "   " + note;
  return text + "\n";
}

std::string counted(int64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string joined(const std::vector<std::string>& values) {
  std::string text;
  for (const std::string& value : values) text += (text.empty() ? "" : ", ") + value;
  return text;
}

std::string heading(const Estimate& estimate) {
  const JobLayout& layout = estimate.layout;
  std::ostringstream text;
  text << estimate.model << ", " << short_count(estimate.num_parameters) << " parameters, on "
       << counted(layout.num_ranks, "rank") << ": " << layout.dims.to_string() << "\n"
       << "a step: " << layout.num_microbatches << " x ";
  if (estimate.pipeline) text << estimate.pipeline->num_microbatches << " microbatches x ";
  text << estimate.rows << " rows of " << with_commas(estimate.seq_len) << " tokens on "
       << layout.num_data_ranks << " data ranks\n";
  return text.str();
}

std::string pipeline_line(const PipelineEstimate& pipeline, int64_t num_ranks) {
  return "pipeline: " + pipeline.schedule + " over " + std::to_string(num_ranks) + " ranks, " +
         std::to_string(pipeline.num_microbatches) + " microbatches; idle " +
         fixed(100 * pipeline.idle_share, 1) + " % of the time, if stages are alike and B = 2 F\n";
}

// What the table calls the rank: "a rank" where all are alike.
std::string which_rank(const Estimate& estimate) {
  const bool are_alike = !estimate.pipeline && !estimate.context;
  return are_alike ? "a rank" : "rank " + std::to_string(estimate.rank);
}

std::string memory_title(const Estimate& estimate) {
  std::string text = "\nmemory of " + which_rank(estimate);
  if (estimate.pipeline) {
    const PipelineEstimate& pipeline = *estimate.pipeline;
    std::vector<std::string> stages;
    for (const int64_t stage : pipeline.stages) stages.push_back(std::to_string(stage));
    text += ", pipeline rank " + std::to_string(pipeline.rank) + ": stage" +
            (stages.size() == 1 ? " " : "s ") + joined(stages) + ", at most " +
            std::to_string(pipeline.peak_live) + " microbatches live";
  }
  if (estimate.context) text += ", which sends most of the ranks that share its rows";
  return text + "\n";
}

std::string pipeline_memory(const PipelineEstimate& pipeline) {
  if (pipeline.memory.empty()) return "";
  std::vector<std::string> totals;
  for (const int64_t total : pipeline.memory) totals.push_back(bytes_text(total));
  return "  the fullest pipeline rank; all of them: " + joined(totals) + "\n";
}

nlohmann::ordered_json context_json(const ContextEstimate& context) {
  nlohmann::ordered_json json = {{"num_ranks", context.num_ranks},
                                 {"documents", context.documents},
                                 {"num_rows", context.num_rows}};
  for (const BalancerCosts& costs : context.balancers) {
    nlohmann::ordered_json& of_balancer = json["balancers"][costs.balancer];
    of_balancer["configured"] = costs.is_configured;
    if (!costs.refusal.empty()) {
      of_balancer["refusal"] = costs.refusal;
      continue;
    }
    of_balancer["imbalance"] = {{"mean", costs.mean_imbalance}, {"worst", costs.worst_imbalance}};
    for (const MethodTraffic& traffic : costs.methods) {
      nlohmann::ordered_json& of_method = of_balancer["methods"][traffic.method];
      of_method["configured"] = traffic.is_configured;
      if (traffic.refusal.empty()) {
        of_method["sent"] = {{"mean", traffic.mean}, {"most", traffic.most}};
      } else {
        of_method["refusal"] = traffic.refusal;
      }
    }
  }
  return json;
}

nlohmann::ordered_json pipeline_json(const PipelineEstimate& pipeline) {
  return {{"schedule", pipeline.schedule},   {"num_microbatches", pipeline.num_microbatches},
          {"rank", pipeline.rank},           {"stages", pipeline.stages},
          {"peak_live", pipeline.peak_live}, {"idle_share", pipeline.idle_share},
          {"memory", pipeline.memory}};
}

}  // namespace

std::string estimate_text(const Estimate& estimate) {
  std::ostringstream text;
  text << heading(estimate);
  if (estimate.pipeline) text << pipeline_line(*estimate.pipeline, estimate.layout.dims.pp);
  text << memory_title(estimate);
  for (const NamedBytes& item : estimate.memory) text << line(item.name, item.num_bytes, item.note);
  text << line("total", estimate.total_memory(), "loss and layer at work are not there at once");
  if (estimate.pipeline) text << pipeline_memory(*estimate.pipeline);
  text << "\nsent by " << which_rank(estimate) << " in a step\n";
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
  if (estimate.context) text << context_text(*estimate.context);
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
  json["rank"] = estimate.rank;
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
  if (estimate.pipeline) json["pipeline"] = pipeline_json(*estimate.pipeline);
  if (estimate.context) json["context"] = context_json(*estimate.context);
  return json.dump() + "\n";
}

}  // namespace tessera
