#include "parallel/fsdp/use_order.h"

namespace tessera {

std::vector<int64_t> UseOrder::use(Pass pass, int64_t unit, int64_t num_ahead) {
  const bool goes_on = last_ && std::get<Pass>(*last_) == pass;
  if (goes_on) successors_[*last_] = unit;
  last_ = Place{pass, goes_on ? std::get<2>(*last_) : -1, unit};

  std::vector<int64_t> ahead;
  Place place = *last_;
  while (static_cast<int64_t>(ahead.size()) < num_ahead) {
    const auto known = successors_.find(place);
    if (known == successors_.end()) break;
    ahead.push_back(known->second);
    place = Place{pass, std::get<2>(place), known->second};
  }
  return ahead;
}

}  // namespace tessera
