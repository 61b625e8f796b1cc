// AttentionMasks: the BlockMasks of one microbatch by name, one per kind of layer ("global",
// "sliding", ...).
//
// A model's get_attention_masks makes them once per microbatch; a layer asks for its own by name.
// Splitting acts on every member alike. Value type; copying shares the masks.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "attention/block_mask/block_mask.h"

namespace tessera {

class AttentionMasks {
 public:
  AttentionMasks() = default;
  AttentionMasks(std::initializer_list<std::pair<std::string, BlockMask>> masks);

  // Throws c10::Error when the name is taken.
  void insert(std::string name, BlockMask mask);

  // Throws c10::Error that lists the names there are.
  const BlockMask& at(const std::string& name) const;

  bool contains(const std::string& name) const;
  size_t size() const { return masks_.size(); }
  std::vector<std::string> names() const;  // in order of insertion

  // Those over the rows' own tokens (MaskSequence::kRow): what ranks that share rows cut.
  AttentionMasks of_rows() const;

  // One AttentionMasks per part; see BlockMask::split.
  std::vector<AttentionMasks> split(const std::vector<int64_t>& batch_sizes) const;

  bool operator==(const AttentionMasks& other) const = default;

 private:
  std::vector<std::pair<std::string, BlockMask>> masks_;
};

}  // namespace tessera
