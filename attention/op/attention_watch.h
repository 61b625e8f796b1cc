// Tells once of every kernel and shape that attention runs with: this folder knows no logger, so
// whoever has one gives a callback.
//
//   registry.set_watch(std::make_shared<AttentionWatch>(
//       [log](const AttentionUse& use) { log.info(to_string(use)); }));
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace tessera {

struct AttentionUse {
  std::string backend;
  std::string kernel;  // which of the backend's kernels ran; may be empty
  std::vector<int64_t> q_sizes;
  std::vector<int64_t> k_sizes;
  std::vector<int64_t> v_sizes;
  at::ScalarType dtype = at::kFloat;

  auto operator<=>(const AttentionUse&) const = default;
};

// "attention: flex (block-sparse, avx2) for q [8, 512, 16, 16], k and v [8, 512, 4, 16], Float"
std::string to_string(const AttentionUse& use);

// May be told from several threads; the callback runs in one at a time.
class AttentionWatch {
 public:
  using Callback = std::function<void(const AttentionUse&)>;
  explicit AttentionWatch(Callback callback) : callback_(std::move(callback)) {}

  void saw(AttentionUse use);

 private:
  Callback callback_;
  std::mutex mutex_;
  std::set<AttentionUse> seen_;
};

}  // namespace tessera
