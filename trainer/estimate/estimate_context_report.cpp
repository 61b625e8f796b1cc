// context_text of trainer/estimate/estimate_context.h.
#include <set>
#include <sstream>

#include "trainer/estimate/estimate_context.h"
#include "trainer/estimate/estimate_format.h"
#include "trainer/support/text_format.h"

namespace tessera {
namespace {

constexpr size_t kNameWidth = 22, kRatioWidth = 9, kBytesWidth = 13;

std::string mark(bool is_configured) { return is_configured ? "* " : "  "; }

std::string heading(const ContextEstimate& context) {
  std::string text =
      "\ncontext parallelism: " + std::to_string(context.num_ranks) + " ranks share each row; ";
  if (context.documents.empty()) return text + "a row is one document\n";
  return text + std::to_string(context.num_rows) + " rows of documents of " + context.documents +
         "\n";
}

// The titles name the methods of the first balancer that has figures; all have the same.
std::string column_titles(const ContextEstimate& context) {
  const auto imbalance_width = kNameWidth + 2 * kRatioWidth;
  std::string text = pad_right(pad_left("imbalance", imbalance_width), imbalance_width + 4) +
                     "sent by the rank that sends most, in a step\n";
  text += pad_right("  balancer", kNameWidth) + pad_left("mean", kRatioWidth) +
          pad_left("worst", kRatioWidth);
  for (const BalancerCosts& costs : context.balancers) {
    if (costs.methods.empty()) continue;
    for (const MethodTraffic& traffic : costs.methods) {
      text += pad_left((traffic.is_configured ? "* " : "") + traffic.method, kBytesWidth);
    }
    break;
  }
  return text + "\n";
}

std::string line_of(const BalancerCosts& costs) {
  std::string text = pad_right(mark(costs.is_configured) + costs.balancer, kNameWidth);
  if (!costs.refusal.empty()) return text + "   not these rows: " + costs.refusal + "\n";
  text +=
      fixed(costs.mean_imbalance, 3, kRatioWidth) + fixed(costs.worst_imbalance, 3, kRatioWidth);
  for (const MethodTraffic& traffic : costs.methods) {
    text += pad_left(traffic.refusal.empty() ? bytes_text(traffic.most) : "-", kBytesWidth);
  }
  return text + "\n";
}

}  // namespace

std::string context_text(const ContextEstimate& context) {
  std::ostringstream text;
  text << heading(context) << column_titles(context);
  std::set<std::string> refusals;
  for (const BalancerCosts& costs : context.balancers) {
    text << line_of(costs);
    for (const MethodTraffic& traffic : costs.methods) {
      if (!traffic.refusal.empty()) refusals.insert(traffic.method + ": " + traffic.refusal);
    }
  }
  text << "  * as configured; imbalance: live pairs of the slowest rank by the mean of all\n";
  for (const std::string& refusal : refusals) text << "  - " << refusal << "\n";
  return text.str();
}

}  // namespace tessera
