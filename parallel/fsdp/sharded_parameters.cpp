#include "parallel/fsdp/sharded_parameters.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <deque>
#include <set>

#include "parallel/fsdp/gradient_buckets.h"
#include "parallel/fsdp/sharded_unit.h"
#include "parallel/fsdp/use_order.h"

namespace tessera {
namespace {

using at::Tensor;

void check_blocks(const std::vector<Block*>& blocks, at::ScalarType dtype) {
  TORCH_CHECK(at::isFloatingType(dtype), "parameters have dtype ", dtype,
              ", expected a floating-point type");
  std::set<std::string> names;
  std::set<const Tensor*> addresses;
  for (const Block* block : blocks) {
    for (const ParameterSlot& slot : block->slots) {
      TORCH_CHECK(slot.tensor != nullptr && slot.tensor->defined(), "parameter '", slot.name,
                  "' has no tensor, expected one with the parameter's shape (meta device)");
      TORCH_CHECK(names.insert(slot.name).second, "parameter name '", slot.name, "' occurs twice");
      TORCH_CHECK(addresses.insert(slot.tensor).second, "parameter '", slot.name,
                  "' has the tensor of another parameter; a tied parameter has one slot");
    }
    const SegmentCallbacks& c = block->callbacks;
    TORCH_CHECK(!c.before_forward && !c.after_forward && !c.before_backward && !c.after_backward,
                "block '", block->name, "' has callbacks already; expected none");
  }
}

// One parameter as this rank holds it: where its rows lie in the flat buffers and in the whole.
struct LocalPart {
  std::string name;
  int64_t flat_offset = 0;
  Rectangle where;
  std::vector<int64_t> whole_shape;
  InitSpec init;
  bool is_cut_by_tensor = false;
  ProcessGroup shared_with = {};  // other pipeline stages that hold it
};

}  // namespace

struct ShardedParameters::Impl {
  Impl(const std::vector<Block*>& blocks, const ParameterGroups& parameter_groups,
       const ShardedParametersOptions& parameter_options);
  ~Impl();

  void set_callbacks(Block& block, int64_t unit);
  void before_use(Pass pass, int64_t unit);
  void after_forward(int64_t unit);
  void before_backward(int64_t unit);
  void after_backward(int64_t unit);
  void finish_oldest_reduction();
  void gradients_are_complete(int64_t unit);
  void start_sum_over_replicas(const UnitRange& bucket);
  void sum_whole_gradients_over_tensor();

  std::vector<Block*> blocks;
  ParameterGroups groups;
  ShardedParametersOptions options;
  std::vector<LocalPart> parts;
  std::vector<int64_t> unit_offsets;  // in the flat buffers, one more than units
  Tensor masters, compute, gradients;
  ByteMeter meter;
  std::deque<ShardedUnit> units;
  UseOrder order;
  std::deque<int64_t> reducing;  // units, oldest first

  // Sums over the replicas.
  std::vector<UnitRange> buckets;
  bool last_backward = false;
  std::vector<int64_t> open_uses;  // of each unit: forwards whose backward is to come
  std::vector<bool> is_complete;
  std::vector<bool> has_left;  // by bucket
  std::vector<PendingWork> sums;
};

ShardedParameters::Impl::Impl(const std::vector<Block*>& model_blocks,
                              const ParameterGroups& parameter_groups,
                              const ShardedParametersOptions& parameter_options)
    : blocks(model_blocks), groups(parameter_groups), options(parameter_options) {
  check_blocks(blocks, options.compute_dtype);
  check_blocks(blocks, options.master_dtype);
  const at::NoGradGuard no_grad;
  const std::vector<ShardLayout> layouts = shard_layouts(blocks, groups.shard.size());
  int64_t numel = 0;
  for (size_t u = 0; u < blocks.size(); ++u) {
    unit_offsets.push_back(numel);
    for (size_t i = 0; i < blocks[u]->slots.size(); ++i) {
      const ParameterSlot& slot = blocks[u]->slots[i];
      const ParameterShard& place = layouts[u].parameters[i];
      const IndexRange rows = place.rows_of(groups.shard.rank());
      LocalPart part{.name = slot.name,
                     .flat_offset = numel + place.shard_offset,
                     .where = slot.where(),
                     .whole_shape = slot.whole_shape(),
                     .init = slot.init,
                     .is_cut_by_tensor = slot.cut.has_value()};
      if (!part.whole_shape.empty()) {
        part.where.shape[0] = rows.size();
        part.where.offset[0] += rows.begin;
      }
      parts.push_back(std::move(part));
    }
    numel += layouts[u].shard_numel;
  }
  unit_offsets.push_back(numel);

  const auto flat = [numel](at::Device device, at::ScalarType dtype) {
    return at::zeros({numel}, at::TensorOptions().device(device).dtype(dtype));
  };
  masters = flat(options.storage_device, options.master_dtype);
  gradients = flat(options.storage_device, options.master_dtype);
  const bool computes_on_masters =
      options.compute_dtype == options.master_dtype && options.device == options.storage_device;
  compute = computes_on_masters ? masters : flat(options.device, options.compute_dtype);

  std::vector<int64_t> unit_bytes;
  for (size_t u = 0; u < blocks.size(); ++u) {
    const int64_t begin = unit_offsets[u], length = unit_offsets[u + 1] - begin;
    units.emplace_back(*blocks[u], layouts[u], groups.shard, compute.narrow(0, begin, length),
                       gradients.narrow(0, begin, length), meter);
    set_callbacks(*blocks[u], static_cast<int64_t>(u));
    unit_bytes.push_back(length * static_cast<int64_t>(gradients.element_size()));
  }
  buckets = plan_buckets(unit_bytes, options.bucket_bytes);
  open_uses.assign(blocks.size(), 0);
  is_complete.assign(blocks.size(), false);
  has_left.assign(buckets.size(), false);
}

ShardedParameters::Impl::~Impl() {
  for (Block* block : blocks) block->callbacks = {.observe = block->callbacks.observe};
}

void ShardedParameters::Impl::set_callbacks(Block& block, int64_t unit) {
  block.callbacks.before_forward = [this, unit] {
    before_use(Pass::kForward, unit);
    ++open_uses[static_cast<size_t>(unit)];
  };
  block.callbacks.after_forward = [this, unit] { after_forward(unit); };
  block.callbacks.before_backward = [this, unit] { before_backward(unit); };
  block.callbacks.after_backward = [this, unit] { after_backward(unit); };
}

void ShardedParameters::Impl::before_use(Pass pass, int64_t unit) {
  units[static_cast<size_t>(unit)].finish_gather();
  for (const int64_t next : order.use(pass, unit, units_ahead(pass))) {
    units[static_cast<size_t>(next)].start_gather();
  }
}

void ShardedParameters::Impl::after_forward(int64_t unit) {
  const bool is_last = unit + 1 == static_cast<int64_t>(units.size());
  const bool is_kept = is_last && !options.reshard_last_block;
  if (options.reshard_after_forward && !is_kept) units[static_cast<size_t>(unit)].free_parameters();
}

void ShardedParameters::Impl::before_backward(int64_t unit) {
  before_use(Pass::kBackward, unit);
  units[static_cast<size_t>(unit)].begin_gradients();
}

void ShardedParameters::Impl::after_backward(int64_t unit) {
  ShardedUnit& own = units[static_cast<size_t>(unit)];
  --open_uses[static_cast<size_t>(unit)];
  if (options.reduce_at_end) {
    if (options.reshard_after_forward) own.free_parameters();
    return;
  }
  own.free_parameters();
  if (own.has_whole_gradients()) {
    own.start_reduction();
    reducing.push_back(unit);
    // On a GPU the sum of one unit travels while the next unit computes, for the price of one more
    // unit's gradients; on a CPU that would take the cores from the computation.
    const size_t num_in_flight = options.device.is_cpu() ? 0 : 1;
    while (reducing.size() > num_in_flight) finish_oldest_reduction();
  } else {
    gradients_are_complete(unit);
  }
}

void ShardedParameters::Impl::finish_oldest_reduction() {
  const int64_t unit = reducing.front();
  reducing.pop_front();
  units[static_cast<size_t>(unit)].finish_reduction();
  gradients_are_complete(unit);
}

// Notes that this backward's gradients of the unit are summed over the shard group. The sum over
// replicas remains, and starts once no other use of the units in its bucket is to come.
void ShardedParameters::Impl::gradients_are_complete(int64_t unit) {
  if (!last_backward || open_uses[static_cast<size_t>(unit)] > 0) return;
  is_complete[static_cast<size_t>(unit)] = true;
  for (size_t b = 0; b < buckets.size(); ++b) {
    const auto first = is_complete.begin() + buckets[b].begin;
    const auto last = is_complete.begin() + buckets[b].end;
    if (has_left[b] || std::find(first, last, false) != last) continue;
    has_left[b] = true;
    start_sum_over_replicas(buckets[b]);
  }
}

void ShardedParameters::Impl::start_sum_over_replicas(const UnitRange& bucket) {
  const int64_t begin = unit_offsets[static_cast<size_t>(bucket.begin)];
  const int64_t end = unit_offsets[static_cast<size_t>(bucket.end)];
  sums.push_back(groups.replicate.all_reduce(gradients.narrow(0, begin, end - begin)));
}

void ShardedParameters::Impl::sum_whole_gradients_over_tensor() {
  if (!options.sum_whole_gradients_over_tensor || groups.tensor.size() == 1) return;
  std::vector<Tensor> views, flat;
  for (const LocalPart& part : parts) {
    if (part.is_cut_by_tensor) continue;
    const int64_t numel = part.where.numel();
    views.push_back(gradients.narrow(0, part.flat_offset, numel));
  }
  const at::NoGradGuard no_grad;
  if (views.empty()) return;
  const Tensor together = at::cat(views);
  groups.tensor.all_reduce(together).wait();
  int64_t offset = 0;
  for (const Tensor& view : views) {
    view.copy_(together.narrow(0, offset, view.numel()));
    offset += view.numel();
  }
}

std::vector<ShardLayout> shard_layouts(const std::vector<Block*>& blocks, int64_t num_ranks) {
  std::vector<ShardLayout> layouts;
  for (const Block* block : blocks) {
    std::vector<std::vector<int64_t>> shapes;
    for (const ParameterSlot& slot : block->slots) shapes.push_back(slot.tensor->sizes().vec());
    layouts.push_back(shard_layout(shapes, num_ranks));
  }
  return layouts;
}

NamedShard whole_shard(const std::string& name, const Tensor& tensor) {
  const std::vector<int64_t> shape = tensor.sizes().vec();
  return {.name = name, .tensor = tensor, .where = Rectangle::whole(shape), .whole_shape = shape};
}

ShardedParameters::ShardedParameters(const std::vector<Block*>& blocks,
                                     const ParameterGroups& groups,
                                     const ShardedParametersOptions& options)
    : impl_(std::make_unique<Impl>(blocks, groups, options)) {}

ShardedParameters::~ShardedParameters() = default;

const Tensor& ShardedParameters::masters() const { return impl_->masters; }
const Tensor& ShardedParameters::gradients() const { return impl_->gradients; }
TransientBytes ShardedParameters::transient_bytes() const { return impl_->meter.bytes(); }

std::vector<NamedShard> ShardedParameters::named(const Tensor& flat) const {
  TORCH_CHECK(flat.sizes() == impl_->masters.sizes() && flat.is_contiguous(),
              "flat buffer has shape ", flat.sizes(), "; expected a contiguous ",
              impl_->masters.sizes());
  std::vector<NamedShard> shards;
  for (const LocalPart& part : impl_->parts) {
    const int64_t numel = part.where.numel();
    const bool is_first_tensor_rank = part.is_cut_by_tensor || impl_->groups.tensor.rank() == 0;
    shards.push_back({.name = part.name,
                      .tensor = flat.narrow(0, part.flat_offset, numel).view(part.where.shape),
                      .where = part.where,
                      .whole_shape = part.whole_shape,
                      .init = part.init,
                      .is_counted = is_first_tensor_rank && part.shared_with.rank() == 0});
  }
  return shards;
}

void ShardedParameters::refresh() {
  const at::NoGradGuard no_grad;
  if (!impl_->compute.is_same(impl_->masters)) impl_->compute.copy_(impl_->masters);
  for (ShardedUnit& unit : impl_->units) unit.free_parameters();
  impl_->order.end_pass();
}

void ShardedParameters::zero_gradients() {
  impl_->gradients.zero_();
  std::fill(impl_->open_uses.begin(), impl_->open_uses.end(), 0);
}

void ShardedParameters::expect_last_backward() { impl_->last_backward = true; }

void ShardedParameters::finish_gradients() {
  Impl& impl = *impl_;
  while (!impl.reducing.empty()) impl.finish_oldest_reduction();
  if (impl.options.reduce_at_end) {
    for (ShardedUnit& unit : impl.units) {
      unit.start_reduction();
      unit.finish_reduction();
    }
  }
  for (size_t b = 0; b < impl.buckets.size(); ++b) {
    if (!impl.has_left[b]) impl.start_sum_over_replicas(impl.buckets[b]);
  }
  for (PendingWork& sum : impl.sums) sum.wait();
  impl.sums.clear();
  impl.last_backward = false;
  std::fill(impl.is_complete.begin(), impl.is_complete.end(), false);
  std::fill(impl.has_left.begin(), impl.has_left.end(), false);

  impl.sum_whole_gradients_over_tensor();
  for (const LocalPart& part : impl.parts) {
    const int64_t numel = part.where.numel();
    part.shared_with.all_reduce(impl.gradients.narrow(0, part.flat_offset, numel)).wait();
  }
}

void ShardedParameters::reduce_gradients(const std::vector<Block*>& blocks) {
  TORCH_INTERNAL_ASSERT(reduces_at_end());
  for (size_t u = 0; u < impl_->units.size(); ++u) {
    if (std::find(blocks.begin(), blocks.end(), impl_->blocks[u]) == blocks.end()) continue;
    impl_->units[u].start_reduction();
    impl_->units[u].finish_reduction();
  }
}

bool ShardedParameters::reduces_at_end() const { return impl_->options.reduce_at_end; }

void ShardedParameters::share_gradient(const std::string& name, const ProcessGroup& group) {
  for (LocalPart& part : impl_->parts) {
    if (part.name != name) continue;
    part.shared_with = group;
    return;
  }
  TORCH_CHECK(false, "share_gradient: there is no parameter '", name, "' on this rank");
}

}  // namespace tessera
