// Rotary position embedding (Su et al., 2021) on adjacent pairs, with Llama 3.1's frequency
// scaling.
//
// Pair i of a head, elements (2i, 2i + 1) taken as a complex number, turns by position * f_i, f_i =
// theta^(-2i / D). Computed as TorchTitan computes it (torchtitan/models/llama3/model/model.py of
// v0.2.2, precompute_freqs_cis): powers, angles, sines in float32, so that the two agree to the
// last bits.
//
// Shape legend: B rows, T tokens, H heads, D head dim, P = D / 2 pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace tessera {

// Llama 3.1 stretches the slow frequencies to reach beyond its original context (apply_scaling in
// Meta's llama-models). With wavelength w = 2 pi / f, original length n =
// original_max_position_embeddings:
//
//   w < n / high_freq_factor    f
//   w > n / low_freq_factor     f / factor
//   between                     (1 - s) f / factor + s f,   s = (n / w - low) / (high - low)
struct RopeScaling {
  double factor = 8.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_max_position_embeddings = 8192;
  bool operator==(const RopeScaling&) const = default;
};

// exp(i * angle) for each position and pair, [B, T, P], complex64 (complex128 for kDouble).
struct RopeTable {
  at::Tensor cis_BTP;
};

// One table serves all layers of a forward. It lies on the positions' device. dtype: kFloat or
// kDouble, the precision of powers, angles and table. Throws c10::Error for positions that are not
// integers [B, T] and for an odd head_dim.
RopeTable rope_table(const at::Tensor& positions_BT, int64_t head_dim, double theta,
                     const std::optional<RopeScaling>& scaling, at::ScalarType dtype = at::kFloat);

// Rotates each pair by its angle, in the table's precision, and casts back to x's dtype.
// Differentiable in x.
at::Tensor apply_rope(const at::Tensor& x_BTHD, const RopeTable& table);

}  // namespace tessera
