#include "attention/op/attention_watch.h"

#include <c10/util/ArrayRef.h>
#include <c10/util/StringUtil.h>

namespace tessera {

std::string to_string(const AttentionUse& use) {
  const std::string kernel = use.kernel.empty() ? "" : " (" + use.kernel + ")";
  const std::string keys_and_values =
      use.k_sizes == use.v_sizes
          ? c10::str("k and v ", at::IntArrayRef(use.k_sizes))
          : c10::str("k ", at::IntArrayRef(use.k_sizes), ", v ", at::IntArrayRef(use.v_sizes));
  return c10::str("attention: ", use.backend, kernel, " for q ", at::IntArrayRef(use.q_sizes), ", ",
                  keys_and_values, ", ", use.dtype);
}

void AttentionWatch::saw(AttentionUse use) {
  const std::lock_guard lock(mutex_);
  const auto [position, is_new] = seen_.insert(std::move(use));
  if (is_new) callback_(*position);
}

}  // namespace tessera
