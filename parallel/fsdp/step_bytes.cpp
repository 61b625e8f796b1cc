#include "parallel/fsdp/step_bytes.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <deque>

#include "parallel/comm/process_group.h"
#include "parallel/fsdp/gradient_buckets.h"
#include "parallel/fsdp/use_order.h"

namespace tessera {
namespace {

// A unit's state, as ShardedUnit keeps it.
struct Unit {
  int64_t whole_bytes = 0;     // gathered parameters
  int64_t gradient_bytes = 0;  // whole gradients
  int64_t gather_sent = 0;
  int64_t reduce_sent = 0;
  bool is_whole = false;
  bool has_gradients = false;
  bool is_reducing = false;
};

class Replay {
 public:
  Replay(const std::vector<ShardLayout>& layouts, const ShardedStep& step) : step_(step) {
    const int64_t others = step.num_shard_ranks - 1;
    for (const ShardLayout& layout : layouts) {
      int64_t numel = 0;  // without the alignment of the flat buffers, which is not sent
      for (const ParameterShard& place : layout.parameters) numel += place.shard_numel();
      units_.push_back({.whole_bytes = layout.full_numel * step.compute_bytes,
                        .gradient_bytes = layout.full_numel * step.master_bytes,
                        .gather_sent = others * numel * step.compute_bytes,
                        .reduce_sent = others * numel * step.master_bytes});
    }
  }

  void run_step(const std::vector<UnitEvent>& events) {
    counts_ = {};
    for (const UnitEvent& event : events) run(event);
    while (!reducing_.empty()) finish_oldest_reduction();
    if (step_.reduce_at_end) {
      for (Unit& unit : units_) reduce(unit);
    }
    for (Unit& unit : units_) free_parameters(unit);  // refresh()
    order_.end_pass();
  }

  ShardedStepBytes counts() const {
    ShardedStepBytes counts = counts_;
    counts.transient_peak = peak_;
    return counts;
  }

 private:
  void run(const UnitEvent& event) {
    switch (event.kind) {
      case UnitEvent::Kind::kForward:
        return forward(event.unit);
      case UnitEvent::Kind::kBackward:
        return backward(event.unit);
      case UnitEvent::Kind::kReduce:
        return reduce(at(event.unit));
    }
  }

  Unit& at(int64_t unit) { return units_[static_cast<size_t>(unit)]; }

  void add(int64_t bytes) {
    now_ += bytes;
    peak_ = std::max(peak_, now_);
  }

  void gather(Unit& unit) {
    if (unit.is_whole) return;
    unit.is_whole = true;
    add(unit.whole_bytes);
    ++counts_.num_gathers;
    counts_.gather_sent += unit.gather_sent;
  }

  void free_parameters(Unit& unit) {
    if (!unit.is_whole) return;
    unit.is_whole = false;
    add(-unit.whole_bytes);
  }

  void use(Pass pass, int64_t unit) {
    gather(at(unit));
    for (const int64_t next : order_.use(pass, unit, units_ahead(pass))) gather(at(next));
  }

  void forward(int64_t unit) {
    use(Pass::kForward, unit);
    const bool is_last = unit + 1 == static_cast<int64_t>(units_.size());
    const bool is_kept = is_last && !step_.reshard_last_block;
    if (step_.reshard_after_forward && !is_kept) free_parameters(at(unit));
  }

  void backward(int64_t unit) {
    Unit& own = at(unit);
    use(Pass::kBackward, unit);
    finish_reduction(own);
    if (!own.has_gradients) add(own.gradient_bytes);
    own.has_gradients = true;
    if (step_.reduce_at_end) {
      if (step_.reshard_after_forward) free_parameters(own);
      return;
    }
    free_parameters(own);
    start_reduction(own);
    reducing_.push_back(unit);
    while (static_cast<int64_t>(reducing_.size()) > step_.num_reductions_in_flight) {
      finish_oldest_reduction();
    }
  }

  void start_reduction(Unit& unit) {
    unit.is_reducing = true;
    add(unit.gradient_bytes);  // what arrives from the other ranks
    ++counts_.num_reductions;
    counts_.reduce_sent += unit.reduce_sent;
  }

  void reduce(Unit& unit) {
    if (!unit.has_gradients) return;
    start_reduction(unit);
    finish_reduction(unit);
  }

  void finish_oldest_reduction() {
    finish_reduction(at(reducing_.front()));
    reducing_.pop_front();
  }

  void finish_reduction(Unit& unit) {
    if (!unit.is_reducing) return;
    unit.is_reducing = unit.has_gradients = false;
    add(-2 * unit.gradient_bytes);
  }

  const ShardedStep& step_;
  std::vector<Unit> units_;
  UseOrder order_;
  std::deque<int64_t> reducing_;
  ShardedStepBytes counts_;
  int64_t now_ = 0, peak_ = 0;
};

void add_replicas(ShardedStepBytes& result, const std::vector<ShardLayout>& layouts,
                  const ShardedStep& step) {
  if (step.num_replicate_ranks == 1) return;
  std::vector<int64_t> unit_bytes;
  unit_bytes.reserve(layouts.size());
  for (const ShardLayout& layout : layouts) {
    unit_bytes.push_back(layout.shard_numel * step.master_bytes);
  }
  for (const UnitRange& bucket : plan_buckets(unit_bytes, step.bucket_bytes)) {
    int64_t bytes = 0;
    for (int64_t unit = bucket.begin; unit < bucket.end; ++unit) {
      bytes += unit_bytes[static_cast<size_t>(unit)];
    }
    ++result.num_buckets;
    result.replicate_sent += all_reduce_sent(bytes, step.num_replicate_ranks);
  }
}

}  // namespace

ShardedStepBytes sharded_step_bytes(const std::vector<ShardLayout>& layouts,
                                    const std::vector<int64_t>& uses, const ShardedStep& step) {
  std::vector<UnitEvent> events;
  for (int64_t m = 0; m < step.num_microbatches; ++m) {
    for (const int64_t unit : uses) events.push_back({UnitEvent::Kind::kForward, unit});
    for (auto unit = uses.rbegin(); unit != uses.rend(); ++unit) {
      events.push_back({UnitEvent::Kind::kBackward, *unit});
    }
  }
  return sharded_step_bytes(layouts, events, step);
}

ShardedStepBytes sharded_step_bytes(const std::vector<ShardLayout>& layouts,
                                    const std::vector<UnitEvent>& events, const ShardedStep& step) {
  ShardedStepBytes result;
  if (step.num_shard_ranks > 1) {  // one rank's buffers are whole already
    Replay replay(layouts, step);
    for (int i = 0; i < 2; ++i) replay.run_step(events);
    result = replay.counts();
  }
  for (const ShardLayout& layout : layouts) {
    TORCH_CHECK(layout.num_ranks == step.num_shard_ranks, "a unit is laid out for ",
                layout.num_ranks, " ranks; expected ", step.num_shard_ranks);
    result.shard_numel += layout.shard_numel;
  }
  add_replicas(result, layouts, step);
  return result;
}

}  // namespace tessera
