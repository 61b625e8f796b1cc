#include "parallel/comm/together.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cstring>

#include "parallel/comm/process_group_impl.h"

namespace tessera {
namespace {

at::Tensor bytes_of(const std::string& text, int64_t length) {
  at::Tensor bytes = at::zeros({length}, at::kByte);
  std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  return bytes;
}

std::string text_of(const at::Tensor& bytes) {
  const at::Tensor here = bytes.to(at::kCPU).contiguous();
  return {static_cast<const char*>(here.const_data_ptr()), here.nbytes()};
}

// The first letter of the text that a rank sends to the others; a result or a reason follows.
constexpr char kDone = '+', kFailed = '-';

std::string outcome_of(const std::function<std::string()>& function) {
  try {
    return kDone + function();
  } catch (const std::exception& error) {
    return kFailed + backend_message(error);  // without the call stack
  }
}

std::string conclusion_of(
    const std::vector<std::string>& outcomes, const std::vector<int64_t>& ranks,
    const std::function<std::string(const std::vector<std::string>&)>& conclude) {
  std::vector<std::string> results;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const std::string result = outcomes[i].substr(1);
    if (outcomes[i].front() == kFailed) {
      const std::string who = "rank " + std::to_string(ranks[i]) + ": ";
      return kFailed + (ranks.size() == 1 ? result : who + result);
    }
    results.push_back(result);
  }
  return outcome_of([&] { return conclude ? conclude(results) : std::string(); });
}

}  // namespace

std::vector<std::string> gather_texts(const std::string& own, const ProcessGroup& group) {
  if (group.size() == 1) return {own};
  const at::Device device = group.device_type();  // the current one
  const auto size = static_cast<int64_t>(own.size());
  const at::Tensor own_length = at::empty({1}, at::kLong).fill_(size).to(device);
  const at::Tensor lengths = at::empty({group.size()}, own_length.options());
  group.all_gather({lengths}, {own_length}).wait();
  const at::Tensor lengths_here = lengths.to(at::kCPU);
  const int64_t* length = lengths_here.const_data_ptr<int64_t>();
  const int64_t longest = *std::max_element(length, length + group.size());

  const at::Tensor own_bytes = bytes_of(own, longest).to(device);
  const at::Tensor all = at::empty({group.size(), longest}, own_bytes.options());
  group.all_gather({all}, {own_bytes}).wait();
  std::vector<std::string> texts;
  const at::Tensor all_here = all.to(at::kCPU);
  for (int64_t rank = 0; rank < group.size(); ++rank) {
    texts.push_back(text_of(all_here[rank].narrow(0, 0, length[rank])));
  }
  return texts;
}

std::string broadcast_text(const std::string& text, const ProcessGroup& group) {
  if (group.size() == 1) return text;
  const at::Device device = group.device_type();  // the current one
  const at::Tensor length =
      at::empty({1}, at::kLong).fill_(static_cast<int64_t>(text.size())).to(device);
  group.broadcast(length, 0).wait();
  const auto size = length.item<int64_t>();
  const at::Tensor bytes =
      (group.rank() == 0 ? bytes_of(text, size) : at::zeros({size}, at::kByte)).to(device);
  group.broadcast(bytes, 0).wait();
  return text_of(bytes);
}

std::string run_together(
    const ProcessGroup& group, const std::function<std::string()>& work,
    const std::function<std::string(const std::vector<std::string>&)>& conclude) {
  const std::vector<std::string> outcomes = gather_texts(outcome_of(work), group);
  const std::string conclusion = broadcast_text(
      group.rank() == 0 ? conclusion_of(outcomes, group.ranks(), conclude) : "", group);
  TORCH_CHECK(conclusion.front() == kDone, conclusion.substr(1));
  return conclusion.substr(1);
}

}  // namespace tessera
