// MaskShape: what a mask is asked for besides its rule, and CreateMaskFn, the function that a model
// is handed to have its masks built. Small, so that the many files that pass masks on read little.
//
//   MaskShape shape{.batch = B, .q_len = T, .kv_len = T};
//   BlockMask mask = create_mask_fn(causal() & document(ids_BT), shape);
#pragma once

#include <cstdint>
#include <functional>

namespace tessera {

class BlockMask;
class MaskMod;

struct BlockSize {
  int64_t q = 128;
  int64_t kv = 128;
  bool operator==(const BlockSize&) const = default;
};

// Whose tokens a mask is over: the rows of a batch, which ranks may share, or a sequence that a
// model makes for itself, such as an encoder's patches, which every rank has whole.
enum class MaskSequence { kRow, kOwn };

// batch and heads: 1 means "the same for all"; any other value must match the attention inputs
// exactly.
struct MaskShape {
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t q_len = 0;
  int64_t kv_len = 0;
  BlockSize block{};
  MaskSequence sequence = MaskSequence::kRow;
  bool operator==(const MaskShape&) const = default;
};

// How a model's get_attention_masks gets its masks built; see models/model.h.
using CreateMaskFn = std::function<BlockMask(const MaskMod&, const MaskShape&)>;

}  // namespace tessera
