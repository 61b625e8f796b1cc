#include "parallel/comm/life_signs.h"

#include <c10/util/Exception.h>

#include <sstream>

namespace tessera {

std::string to_text(const LifeSign& sign) {
  return std::to_string(sign.num_beats) + " " + (sign.has_failed ? "1" : "0") + " " +
         (sign.has_left ? "1" : "0");
}

LifeSign life_sign_of(const std::string& text) {
  LifeSign sign;
  std::istringstream words(text);
  words >> sign.num_beats >> sign.has_failed >> sign.has_left;
  TORCH_INTERNAL_ASSERT(words, "no life sign: ", text);
  return sign;
}

LifeWatch::LifeWatch(const Options& options)
    : options_(options), seen_(static_cast<size_t>(options.num_ranks)) {}

void LifeWatch::look(const std::vector<LifeSign>& signs) {
  TORCH_INTERNAL_ASSERT(signs.size() == seen_.size());
  ++num_looks_;
  for (size_t rank = 0; rank < signs.size(); ++rank) {
    Seen& seen = seen_[rank];
    if (num_looks_ == 1 || signs[rank].num_beats != seen.sign.num_beats) {
      seen.changed_at = num_looks_;
    }
    seen.sign = signs[rank];
  }
}

bool LifeWatch::is_silent(int64_t rank) const {
  return num_looks_ - seen_[static_cast<size_t>(rank)].changed_at >= options_.patience;
}

// A rank that was seen to beat might have died since: it lives when it still beats after we have
// looked for as long as a silent one would have been given.
Life LifeWatch::life(int64_t rank) const {
  const Seen& seen = seen_[static_cast<size_t>(rank)];
  if (seen.sign.has_failed) return Life::kFailed;
  if (seen.sign.has_left) return Life::kLeft;
  if (is_silent(rank)) return Life::kLost;
  return seen.changed_at > options_.patience ? Life::kLives : Life::kUnknown;
}

std::vector<int64_t> LifeWatch::others(Life wanted) const {
  std::vector<int64_t> ranks;
  for (int64_t rank = 0; rank < options_.num_ranks; ++rank) {
    if (rank != options_.rank && life(rank) == wanted) ranks.push_back(rank);
  }
  return ranks;
}

bool LifeWatch::is_alone() const {
  for (int64_t rank = 0; rank < options_.num_ranks; ++rank) {
    const bool has_left = seen_[static_cast<size_t>(rank)].sign.has_left;
    if (rank != options_.rank && !has_left && !is_silent(rank)) return false;
  }
  return true;
}

}  // namespace tessera
