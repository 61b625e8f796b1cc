// A custom attention with an argument and a mask form of its own, as a shared library.
#include <ATen/TensorOperators.h>

#include "attention/backends/flex/flex_attention.h"
#include "models/extension.h"

namespace {

// Softmax at another temperature, by the built-in attention.
struct TemperedArgs {
  double temperature = 1.0;
};

tessera::AttentionOutput tempered(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                                  const at::Tensor& v_BSKE, const tessera::BlockMask& mask,
                                  const tessera::AttentionOptions& options) {
  const double temperature = options.typed<TemperedArgs>().temperature;
  return tessera::flex_attention(q_BTHD / temperature, k_BSKD, v_BSKE, mask, options);
}

// Masks in tiles of 64 x 64, for a sequence of short documents.
tessera::BlockMask small_tiles(const tessera::MaskMod& rule, const tessera::MaskShape& shape,
                               const tessera::MaskConfig&) {
  tessera::MaskShape tiles = shape;
  tiles.block = {.q = 64, .kv = 64};
  return tessera::create_block_mask(rule, tiles);
}

}  // namespace

TESSERA_EXTENSION(registries) {
  registries.masks.add_form(
      {.name = "small_tiles", .description = "64 x 64", .build = small_tiles});
  registries.attention.add({.name = "tempered",
                            .description = "flex attention with a temperature",
                            .function = tempered,
                            .mask_form = "small_tiles",
                            .signature = tessera::AttentionSignature::of<TemperedArgs>(
                                {{"temperature", &TemperedArgs::temperature}})});
}
