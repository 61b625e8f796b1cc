#include "parallel/fsdp/sharded_unit.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>

namespace tessera {
namespace {

using at::Tensor;

// Tensors that share the storage keep it and find the new memory when it is allocated again.
void free_storage(const Tensor& tensor) {
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(storage->allocator()->allocate(0));
  storage->set_nbytes(0);
}

void allocate_storage(const Tensor& tensor, size_t num_bytes) {
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(storage->allocator()->allocate(num_bytes));
  storage->set_nbytes(num_bytes);
}

int64_t num_bytes(const Tensor& flat) {
  return flat.numel() * static_cast<int64_t>(flat.element_size());
}

}  // namespace

ShardedUnit::ShardedUnit(Block& block, ShardLayout layout, const ProcessGroup& group,
                         const Tensor& compute_shard, const Tensor& gradient_shard,
                         ByteMeter& meter)
    : layout_(std::move(layout)),
      group_(group),
      compute_shard_(compute_shard),
      gradient_shard_(gradient_shard),
      meter_(meter) {
  parameters_ =
      is_alone() ? compute_shard : at::empty({layout_.full_numel}, compute_shard.options());
  gradients_ = is_alone() ? gradient_shard
                          : at::empty({layout_.full_numel},
                                      gradient_shard.options().device(compute_shard.device()));
  for (size_t i = 0; i < block.slots.size(); ++i) {
    const ParameterShard& place = layout_.parameters[i];
    const std::vector<int64_t> shape = block.slots[i].tensor->sizes().vec();
    const auto whole = [&](const Tensor& flat) {
      return flat.narrow(0, place.full_offset, place.num_rows * place.row_numel).view(shape);
    };
    // variable_data() and not detach(): the leaf must not share the buffer's version counter, which
    // every gather moves on.
    Tensor& leaf = *block.slots[i].tensor;
    leaf = whole(parameters_).variable_data().set_requires_grad(true);
    leaf.mutable_grad() = whole(gradients_);  // autograd adds in place, in the gradients' dtype
  }
  if (is_alone()) return;
  free_storage(parameters_);
  free_storage(gradients_);
}

std::vector<Tensor> ShardedUnit::shards_of(const Tensor& flat) const {
  std::vector<Tensor> shards;
  for (const ParameterShard& place : layout_.parameters) {
    shards.push_back(flat.narrow(0, place.shard_offset, place.shard_numel()));
  }
  return shards;
}

std::vector<Tensor> ShardedUnit::wholes_of(const Tensor& flat) const {
  std::vector<Tensor> wholes;
  for (const ParameterShard& place : layout_.parameters) {
    wholes.push_back(flat.narrow(0, place.full_offset, layout_.num_ranks * place.shard_numel()));
  }
  return wholes;
}

void ShardedUnit::start_gather() {
  if (is_alone() || is_whole_ || is_gathering_) return;
  const at::NoGradGuard no_grad;
  allocate_storage(parameters_, static_cast<size_t>(num_bytes(parameters_)));
  meter_.add(num_bytes(parameters_));
  gather_ = group_.all_gather(wholes_of(parameters_), shards_of(compute_shard_));
  is_gathering_ = true;
}

void ShardedUnit::finish_gather() {
  start_gather();
  gather_.wait();
  is_gathering_ = false;
  is_whole_ = true;
}

void ShardedUnit::free_parameters() {
  if (is_alone() || !(is_whole_ || is_gathering_)) return;
  gather_.wait();
  is_gathering_ = false;
  is_whole_ = false;
  free_storage(parameters_);
  meter_.add(-num_bytes(parameters_));
}

void ShardedUnit::begin_gradients() {
  finish_reduction();
  if (is_alone() || has_gradients_) return;
  const at::NoGradGuard no_grad;
  allocate_storage(gradients_, static_cast<size_t>(num_bytes(gradients_)));
  meter_.add(num_bytes(gradients_));
  gradients_.zero_();
  has_gradients_ = true;
}

void ShardedUnit::start_reduction() {
  if (!has_gradients_ || is_reducing_) return;
  meter_.add(num_bytes(gradients_));  // what arrives from the other ranks
  std::vector<Tensor> sums = shards_of(gradient_shard_);
  if (gradients_.device() == gradient_shard_.device()) {
    reduction_ = group_.reduce_scatter_add(sums, wholes_of(gradients_));
  } else {  // offloaded: the sums cross over once they are there
    const at::NoGradGuard no_grad;
    const Tensor on_device = at::zeros_like(gradient_shard_, gradients_.options());
    group_.reduce_scatter_add(shards_of(on_device), wholes_of(gradients_)).wait();
    gradient_shard_.add_(on_device.to(gradient_shard_.device()));
  }
  is_reducing_ = true;
}

void ShardedUnit::finish_reduction() {
  if (!is_reducing_) return;
  reduction_.wait();
  is_reducing_ = false;
  has_gradients_ = false;
  free_storage(gradients_);
  meter_.add(-2 * num_bytes(gradients_));
}

}  // namespace tessera
