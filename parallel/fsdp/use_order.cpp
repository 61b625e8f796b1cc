#include "parallel/fsdp/use_order.h"

namespace tessera {

std::optional<int64_t> UseOrder::use(Pass pass, int64_t unit) {
  const bool goes_on = last_ && std::get<Pass>(*last_) == pass;
  if (goes_on) successors_[*last_] = unit;
  last_ = Place{pass, goes_on ? std::get<2>(*last_) : -1, unit};
  const auto known = successors_.find(*last_);
  return known == successors_.end() ? std::nullopt : std::optional(known->second);
}

}  // namespace tessera
