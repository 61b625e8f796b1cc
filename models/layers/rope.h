// Rotary position embedding (Su et al., 2021) on adjacent pairs, with Llama 3.1's frequency
// scaling.
//
// Pair i of a head, elements (2i, 2i + 1) taken as a complex number, turns by the angle
//
//   position * f_i   with   f_i = theta^(-2i / D)
//
// The angles are computed as TorchTitan computes them (torchtitan/models/llama3/model/model.py of
// v0.2.2, precompute_freqs_cis): powers, angles, sines in float32, so that the two agree to the
// last bits.
//
//   RopeTable rope = rope_table(batch.positions_BT, /*head_dim=*/128, /*theta=*/500000.0,
//                               RopeScaling{});
//   q_BTHD = apply_rope(q_BTHD, rope);
//
// Shape legend: B rows, T tokens, H heads, D head dim, P = D / 2 pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace tessera {

// Llama 3.1 stretches the slow frequencies to reach beyond its original context (apply_scaling in
// Meta's llama-models). With the wavelength w = 2 pi / f in tokens,
// n = original_max_position_embeddings, low = low_freq_factor and high = high_freq_factor, the
// frequency f becomes
//
//   w < n / high    f
//   w > n / low     f / factor
//   between         (1 - s) f / factor + s f,   s = (n / w - low) / (high - low)
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

// The table of all layers of a forward, on the positions' device. dtype is the precision of powers,
// angles and table, kFloat or kDouble. Throws c10::Error for positions that are not integers
// [B, T], for a head_dim that is odd or not positive, and for any other dtype.
RopeTable rope_table(const at::Tensor& positions_BT, int64_t head_dim, double theta,
                     const std::optional<RopeScaling>& scaling, at::ScalarType dtype = at::kFloat);

// Rotates each pair by its angle, in the table's precision, and casts back to x's dtype. x may have
// any number of heads; the result has its shape. Differentiable in x.
at::Tensor apply_rope(const at::Tensor& x_BTHD, const RopeTable& table);

}  // namespace tessera
