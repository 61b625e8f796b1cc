// Any bytes are either a mask or an error; a mask has the same bytes again and bears every
// question.
#include <c10/util/Exception.h>

#include <cstdint>

#include "attention/block_mask/block_mask_bytes.h"

namespace {

void require(bool holds) {
  if (!holds) __builtin_trap();
}

void ask(const tessera::BlockMask& mask) {
  const tessera::MaskShape& shape = mask.shape();
  const int64_t pairs = mask.num_pairs();
  require(pairs >= 0 && mask.sparsity() <= 100.0);
  require(!mask.is_full() || mask.sparsity() == 0.0);
  mask.to_string();
  mask.allows(0, 0, shape.q_len - 1, shape.kv_len - 1);
  // What walks over columns costs as much as there are columns.
  if (mask.data().num_kv_blocks() > 1000) return;
  mask.q_runs(0, 0, mask.data().num_kv_blocks() - 1);
  const tessera::BlockMask part = mask.crop((shape.q_len + 1) / 2, (shape.kv_len + 1) / 2);
  require(part.num_pairs() <= pairs);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  try {
    const tessera::BlockMask mask = tessera::block_mask_from_bytes(text);
    require(tessera::to_bytes(mask) == text);
    ask(mask);
  } catch (const c10::Error&) {
  }
  return 0;
}
