// AttentionMasks: the BlockMasks of one microbatch by name, one per kind of layer ("global",
// "sliding", ...).
//
// A model's get_attention_masks makes them once per microbatch; a layer asks for its own by name.
// AttentionMasks is a value type, and copies share the masks. Names are unique.
//
//   AttentionMasks masks{{"global", global_mask}, {"sliding", sliding_mask}};
//   attend(q_BTHD, k_BSKD, v_BSKE, masks.at("sliding"));
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "attention/block_mask/block_mask.h"

namespace tessera {

class AttentionMasks {
 public:
  AttentionMasks() = default;

  // Throws c10::Error when a name stands twice.
  AttentionMasks(std::initializer_list<std::pair<std::string, BlockMask>> masks);

  // Adds a mask. Throws c10::Error when the name is taken.
  void insert(std::string name, BlockMask mask);

  // The mask of this name. Throws c10::Error that lists the names there are.
  const BlockMask& at(const std::string& name) const;

  bool contains(const std::string& name) const;
  size_t size() const { return masks_.size(); }
  std::vector<std::string> names() const;  // in order of insertion

  // The masks over the tokens of the batch's rows (MaskSequence::kRow). Ranks that share rows cut
  // these masks and no others.
  AttentionMasks of_rows() const;

  // Splits every mask along the batch; part i holds part i of each mask. Throws as BlockMask::split
  // does.
  std::vector<AttentionMasks> split(const std::vector<int64_t>& batch_sizes) const;

  bool operator==(const AttentionMasks& other) const = default;

 private:
  std::vector<std::pair<std::string, BlockMask>> masks_;
};

}  // namespace tessera
