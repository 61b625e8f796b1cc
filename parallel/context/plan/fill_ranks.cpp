#include "parallel/context/plan/fill_ranks.h"

#include <algorithm>
#include <numeric>

namespace tessera {

namespace {

// The keys that the blocks of one rank read, and how many a further block would add.
class KeySet {
 public:
  explicit KeySet(const BlockReads& reads)
      : reads_(reads),
        read_(reads.of_block.size(), 0),
        num_read_before_(reads.of_block.size() + 1, 0) {}

  double added_by(int64_t block) const {
    int64_t added = 0;
    for (const TokenRange& range : reads_.of_block[block]) {
      added += range.size() - (num_read_before_[range.end] - num_read_before_[range.begin]);
    }
    return reads_.weight * static_cast<double>(added);
  }

  void add(int64_t block) {
    if (added_by(block) == 0) return;
    for (const TokenRange& range : reads_.of_block[block]) {
      std::fill(read_.begin() + range.begin, read_.begin() + range.end, 1);
    }
    std::partial_sum(read_.begin(), read_.end(), num_read_before_.begin() + 1);
  }

  void clear() {
    std::fill(read_.begin(), read_.end(), 0);
    std::fill(num_read_before_.begin(), num_read_before_.end(), 0);
  }

 private:
  const BlockReads& reads_;
  std::vector<int32_t> read_;
  std::vector<int32_t> num_read_before_;
};

class Filler {
 public:
  Filler(const BlockWork& work, std::vector<int64_t> costliest_first, double tolerance)
      : costs_(work.costs),
        left_(std::move(costliest_first)),
        cost_left_(std::accumulate(costs_.begin(), costs_.end(), 0.0)),
        tolerance_(tolerance) {
    for (const BlockReads& reads : work.reads) keys_.emplace_back(reads);
  }

  std::vector<int64_t> fill(int64_t ranks_left) {
    const auto blocks_per_rank = static_cast<int64_t>(left_.size()) / ranks_left;
    const double target = cost_left_ / static_cast<double>(ranks_left);
    for (KeySet& keys : keys_) keys.clear();
    std::vector<int64_t> mine;
    double load = 0;
    while (static_cast<int64_t>(mine.size()) < blocks_per_rank) {
      const auto place = pick(blocks_per_rank - static_cast<int64_t>(mine.size()) - 1,
                              target - load, target * tolerance_, mine.empty());
      const int64_t block = left_[place];
      left_.erase(left_.begin() + place);
      mine.push_back(block);
      load += costs_[block];
      for (KeySet& keys : keys_) keys.add(block);
    }
    cost_left_ -= load;
    return mine;
  }

 private:
  double cost(int64_t place) const { return costs_[left_[place]]; }

  double added_keys(int64_t block) const {
    double added = 0;
    for (const KeySet& keys : keys_) added += keys.added_by(block);
    return added;
  }

  // The place in left_ of the block that adds the fewest keys (the costliest of equals) among those
  // after which `more` further blocks can still bring the load to `wanted` +- slack: the cheapest
  // left would not exceed it, the costliest would reach it. If there is no such block, the place of
  // the one that comes closest. A rank's first block is the costliest left.
  int64_t pick(int64_t more, double wanted, double slack, bool first) const {
    if (first) return 0;
    const auto num_left = static_cast<int64_t>(left_.size());
    double cheapest = 0;
    double costliest = 0;
    for (int64_t i = 0; i < more; ++i) {
      cheapest += cost(num_left - 1 - i);
      costliest += cost(i);
    }
    int64_t best = -1;
    double best_added = 0;
    int64_t closest = -1;
    double closest_miss = 0;
    for (int64_t place = 0; place < num_left; ++place) {
      // A block that is itself among the cheapest or costliest gives its place to the next one.
      const double low =
          place >= num_left - more ? cheapest + cost(num_left - 1 - more) : cheapest + cost(place);
      const double high = place < more ? costliest + cost(more) : costliest + cost(place);
      const double miss = std::max(low - wanted, wanted - high);
      if (miss > slack) {
        if (closest < 0 || miss < closest_miss) {
          closest = place;
          closest_miss = miss;
        }
        continue;
      }
      const double added = added_keys(left_[place]);
      if (best < 0 || added < best_added) {
        best = place;
        best_added = added;
        if (added == 0) break;
      }
    }
    return best >= 0 ? best : closest;
  }

  const std::vector<double>& costs_;
  std::vector<int64_t> left_;  // by descending cost
  double cost_left_;
  double tolerance_;
  std::vector<KeySet> keys_;  // by mask
};

}  // namespace

BlockLists fill_ranks(const BlockWork& work, std::vector<int64_t> costliest_first,
                      int64_t num_ranks, double tolerance) {
  Filler filler(work, std::move(costliest_first), tolerance);
  BlockLists lists;
  for (int64_t rank = 0; rank < num_ranks; ++rank) lists.push_back(filler.fill(num_ranks - rank));
  return lists;
}

}  // namespace tessera
