// Extras: the images of rows, as patches.
//
// Row b has P patch slots. The patches of its images stand there one image after the other; slots
// after the last image are padding. A model with an encoder makes a feature of every patch and puts
// it where the embedding of a token would be, for the tokens that feature_of_token_BT says.
//
//   patches_BPC          {a0 a1 a2 b0 pad pad}
//   image_ids_BP         {0  0  0  1  -1  -1}
//   feature_of_token_BT  {-1 0 1 2 -1 -1 3 -1}      "<text> a <text> b <text>", 8 tokens
//
// Without any member, which is the default, there is only text. Members are on the tokens' device.
//
// Shape legend: B rows, T tokens of a row, P patch slots of a row, C numbers of a patch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tessera {

// The feature_of_token_BT of a token that keeps its embedding.
inline constexpr int64_t kNoFeature = -1;

// The image id of a slot that is padding.
inline constexpr int64_t kNoImage = -1;

// Either all members are undefined or none.
struct Extras {
  at::Tensor patches_BPC = {};  // floating point

  // int64; ids ascend from 0 in each row, then kNoImage. Equal ids are adjacent, so that
  // document(image_ids_BP) is a mask in which every image, and the padding, is by itself.
  at::Tensor image_ids_BP = {};

  // int64: the slot whose feature replaces the token's embedding, or kNoFeature.
  at::Tensor feature_of_token_BT = {};

  bool empty() const;

  // Checks that the extras belong to these tokens [B, T] (or to a part of each row). Throws
  // c10::Error naming the member, what was got and what was expected, for an undefined member
  // beside defined ones, another dtype, shape or device, and for a slot number out of range, which
  // is looked at on the CPU only.
  void check(const at::Tensor& tokens_BT) const;

  Extras to(at::Device device) const;

  // Rows [begin, end), sharing storage.
  Extras rows(int64_t begin, int64_t end) const;
};

}  // namespace tessera
