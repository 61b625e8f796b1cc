// Random masks for property tests: a rule, its shape, its block mask and its pairs. Everything is a
// function of the seed. Internal to tests/attention/.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/block_mask/block_mask.h"
#include "tests/attention/masks/reference_masks.h"

namespace tessera::testing {

// A shape with lengths up to max_tokens, often square, and with any block sizes.
inline MaskShape random_shape(RandomRules& random, int64_t max_tokens) {
  constexpr int64_t kBlocks[] = {1, 2, 3, 4, 5, 7, 8, 13, 16, 33, 64, 70, 128};
  const auto block = [&] { return kBlocks[random.uniform(0, std::size(kBlocks) - 1)]; };
  MaskShape shape{.q_len = random.uniform(1, max_tokens), .kv_len = random.uniform(1, max_tokens)};
  if (random.uniform(0, 1) == 0) shape.kv_len = shape.q_len;
  shape.block = {block(), block()};
  return shape;
}

// `mask` is built from `rule`; dense_BHTS, bool, holds its pairs as the reference says them.
struct RandomMask {
  MaskMod rule;
  BlockMask mask;
  at::Tensor dense_BHTS;
};

// A mask of a rule over `max_tokens` tokens, for 1 or `batch` rows and 1 or 2 heads.
inline RandomMask random_mask(uint32_t seed, int64_t max_tokens, int64_t batch = 2) {
  RandomRules random(seed, max_tokens);
  const RandomRule rule = random.rule(batch, static_cast<int>(seed % 4));
  MaskShape shape = random_shape(random, max_tokens);
  shape.batch = rule.rule.batch_size() > 1 || random.uniform(0, 1) == 0 ? batch : 1;
  shape.heads = random.uniform(1, 2);
  return {rule.rule, create_block_mask(rule.rule, shape), dense_from_rule(rule.allows, shape)};
}

}  // namespace tessera::testing
