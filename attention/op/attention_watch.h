// AttentionWatch: calls back once for every kernel and shape that attention runs with. This folder
// knows no logger, so whoever has one gives a callback.
//
//   registry.set_watch(std::make_shared<AttentionWatch>(
//       [](const AttentionUse& use) { std::cout << to_string(use) << "\n"; }));
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace tessera {

// One way in which attention ran: sizes are those of q [B, T, H, D], k [B, S, K, D] and
// v [B, S, K, E], dtype is that of all three.
struct AttentionUse {
  std::string backend;
  std::string kernel;  // which of the backend's kernels ran; may be empty
  std::vector<int64_t> q_sizes;
  std::vector<int64_t> k_sizes;
  std::vector<int64_t> v_sizes;
  at::ScalarType dtype = at::kFloat;

  auto operator<=>(const AttentionUse&) const = default;
};

// One line for logs:
// "attention: flex (block-sparse, avx2) for q [8, 512, 16, 16], k and v [8, 512, 4, 16], Float".
std::string to_string(const AttentionUse& use);

// Ops may report from several threads; the callback runs in one thread at a time, under the watch's
// lock, so it must not call saw() itself.
class AttentionWatch {
 public:
  using Callback = std::function<void(const AttentionUse&)>;
  explicit AttentionWatch(Callback callback) : callback_(std::move(callback)) {}

  // Calls back unless an equal use was seen before. AttentionOp calls this after each call.
  void saw(AttentionUse use);

 private:
  Callback callback_;
  std::mutex mutex_;
  std::set<AttentionUse> seen_;
};

}  // namespace tessera
