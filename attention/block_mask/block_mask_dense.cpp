// The T x S forms of a BlockMask. Rows of tiles are written in parallel, whole runs at a time.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>

#include <limits>

#include "attention/block_mask/block_mask_shared.h"

namespace tessera {

namespace {

// Writes the elements of one row of a bit tile from its words.
template <typename T>
void expand_bits(const uint64_t* words, int64_t num_keys, T allowed, T masked, T* out) {
  for (int64_t begin = 0; begin < num_keys; begin += 64) {
    const uint64_t word = words[begin / 64];
    const int64_t size = std::min<int64_t>(64, num_keys - begin);
    for (int64_t j = 0; j < size; ++j) out[begin + j] = (word >> j & 1) != 0 ? allowed : masked;
  }
}

template <typename T>
void expand_row_of_tiles(const BlockMaskData& data, int64_t row, T allowed, T masked, T* out) {
  const MaskShape& shape = data.shape;
  const int64_t q_block = row % data.num_q_blocks();
  const int64_t num_queries = block_tokens(q_block, shape.block.q, shape.q_len).size();
  for (int64_t q = 0; q < num_queries; ++q) {
    T* out_row = out + q * shape.kv_len;
    std::fill_n(out_row, shape.kv_len, masked);
    for (const BlockRun& run : runs_of_row(data, row)) {
      const int64_t begin = run.begin * shape.block.kv;
      const int64_t size = std::min(run.end * shape.block.kv, shape.kv_len) - begin;
      if (run.full()) {
        std::fill_n(out_row + begin, size, allowed);
      } else {
        const int64_t word = run.tile * words_per_tile(data) + q * data.words_per_row();
        expand_bits(data.tile_bits.data() + word, size, allowed, masked, out_row + begin);
      }
    }
  }
}

template <typename T>
at::Tensor expand(const BlockMaskData& data, at::ScalarType dtype, T allowed, T masked) {
  const MaskShape& shape = data.shape;
  const at::Tensor result_BHTS =
      at::empty({shape.batch, shape.heads, shape.q_len, shape.kv_len}, dtype);
  T* out = result_BHTS.mutable_data_ptr<T>();
  const int64_t num_rows = static_cast<int64_t>(data.row_offsets.size()) - 1;
  at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t group = row / data.num_q_blocks();
      const int64_t first_query = group * shape.q_len + row % data.num_q_blocks() * shape.block.q;
      expand_row_of_tiles(data, row, allowed, masked, out + first_query * shape.kv_len);
    }
  });
  return result_BHTS;
}

at::Tensor expand(const BlockMaskData& data, at::ScalarType dtype) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  switch (dtype) {
    case at::kBool:
      return expand<bool>(data, dtype, true, false);
    case at::kDouble:
      return expand<double>(data, dtype, 0.0, -kInfinity);
    case at::kFloat:
      return expand<float>(data, dtype, 0.0F, -kInfinity);
    case at::kBFloat16:
      return expand<c10::BFloat16>(data, dtype, 0.0F, -kInfinity);
    case at::kHalf:
      return expand<c10::Half>(data, dtype, 0.0F, -kInfinity);
    default:
      C10_THROW_ERROR(Error, c10::str("BlockMask::to_additive: dtype: got ", dtype,
                                      ", expected Float, Double, BFloat16 or Half"));
  }
}

// `forms` are few (one per dtype and device in use), so a list will do.
at::Tensor find_or_make(const BlockMaskData& data, at::ScalarType dtype, at::Device device,
                        std::vector<at::Tensor>& forms) {
  for (const at::Tensor& form : forms) {
    const bool same_device =
        device.has_index() ? form.device() == device : form.device().type() == device.type();
    if (form.scalar_type() == dtype && same_device) return form;
  }
  // A mask may be built first in an evaluation and then be used in training, which refuses
  // inference tensors.
  const c10::InferenceMode ordinary_tensors(false);
  forms.push_back(expand(data, dtype).to(device));
  return forms.back();
}

}  // namespace

at::Tensor BlockMask::to_dense(at::Device device) const {
  const std::lock_guard lock(shared_->mutex);
  return find_or_make(data(), at::kBool, device, shared_->square_forms);
}

at::Tensor BlockMask::to_additive(at::ScalarType dtype, at::Device device) const {
  TORCH_CHECK(dtype != at::kBool,
              "BlockMask::to_additive: dtype: got Bool, expected Float, "
              "Double, BFloat16 or Half; to_dense() is the boolean form");
  const std::lock_guard lock(shared_->mutex);
  return find_or_make(data(), dtype, device, shared_->square_forms);
}

}  // namespace tessera
