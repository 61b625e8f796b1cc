#include "parallel/tensor/tensor_parallel.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/embedding.h>
#include <c10/util/Exception.h>

#include "parallel/comm/collectives.h"

namespace tessera {
namespace {

constexpr int64_t kTokenDim = 1;

}  // namespace

IndexRange even_part(int64_t size, int64_t num_parts, int64_t index) {
  const int64_t shorter = size / num_parts, num_longer = size % num_parts;
  const int64_t begin = index * shorter + std::min(index, num_longer);
  return {begin, begin + shorter + (index < num_longer ? 1 : 0)};
}

TensorParallel::TensorParallel(const ProcessGroup& group, bool sequence_parallel)
    : group_(group), sequence_parallel_(sequence_parallel) {}

at::Tensor TensorParallel::enter(const at::Tensor& x_BTD) const {
  return sequence_parallel_ ? gather_dim(x_BTD, kTokenDim, group_) : spread_over(x_BTD, group_);
}

at::Tensor TensorParallel::leave(const at::Tensor& partial_BTD) const {
  return sequence_parallel_ ? scatter_sum(partial_BTD, kTokenDim, group_)
                            : sum_over(partial_BTD, group_);
}

OwnShape TensorParallel::cut(const std::vector<int64_t>& shape, int64_t dim) const {
  if (size() == 1) return {shape};
  const auto d = static_cast<size_t>(dim);
  const IndexRange own = even_part(shape[d], size(), group_.rank());
  Rectangle rectangle = Rectangle::whole(shape);
  rectangle.offset[d] = own.begin;
  rectangle.shape[d] = own.size();
  return {.shape = rectangle.shape, .cut = ParameterCut{rectangle, shape}};
}

VocabularyPart TensorParallel::vocabulary(int64_t vocab_size) const {
  return {.rows = even_part(vocab_size, size(), group_.rank()),
          .vocab_size = vocab_size,
          .group = group_};
}

void TensorParallel::check_divides(const std::string& field, int64_t value) const {
  TORCH_CHECK(value % size() == 0, "tensor parallelism over ", size(), " ranks: ", field, " is ",
              value, "; expected a multiple of ", size());
}

at::Tensor embed_part(const at::Tensor& tokens_BT, const at::Tensor& weight_VD,
                      const VocabularyPart& part) {
  if (part.rows.size() == part.vocab_size) return at::embedding(weight_VD, tokens_BT);
  const at::Tensor elsewhere_BT =
      tokens_BT.lt(part.rows.begin).logical_or_(tokens_BT.ge(part.rows.end));
  const at::Tensor rows_BT = tokens_BT.sub(part.rows.begin).masked_fill_(elsewhere_BT, 0);
  return at::embedding(weight_VD, rows_BT).masked_fill(elsewhere_BT.unsqueeze(-1), 0);
}

at::Tensor join_logits(const at::Tensor& logits, const VocabularyPart& part) {
  if (part.group.size() == 1) return logits;
  const int64_t after = part.vocab_size - part.rows.end;
  return sum_over(at::constant_pad_nd(logits, {part.rows.begin, after}), part.group);
}

}  // namespace tessera
