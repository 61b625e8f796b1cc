#include "attention/block_mask/attention_masks.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

namespace tessera {

AttentionMasks::AttentionMasks(std::initializer_list<std::pair<std::string, BlockMask>> masks) {
  for (const auto& [name, mask] : masks) insert(name, mask);
}

void AttentionMasks::insert(std::string name, BlockMask mask) {
  TORCH_CHECK(!contains(name), "AttentionMasks::insert: name: got \"", name,
              "\", expected one that is not taken; there are: ", c10::Join(", ", names()));
  masks_.emplace_back(std::move(name), std::move(mask));
}

const BlockMask& AttentionMasks::at(const std::string& name) const {
  for (const auto& [own_name, mask] : masks_) {
    if (own_name == name) return mask;
  }
  C10_THROW_ERROR(Error, c10::str("AttentionMasks::at: name: got \"", name,
                                  "\", expected one of: ", c10::Join(", ", names())));
}

bool AttentionMasks::contains(const std::string& name) const {
  return std::any_of(masks_.begin(), masks_.end(),
                     [&](const auto& entry) { return entry.first == name; });
}

std::vector<std::string> AttentionMasks::names() const {
  std::vector<std::string> names;
  for (const auto& [name, mask] : masks_) names.push_back(name);
  return names;
}

AttentionMasks AttentionMasks::of_rows() const {
  AttentionMasks rows;
  for (const auto& [name, mask] : masks_) {
    if (mask.shape().sequence == MaskSequence::kRow) rows.insert(name, mask);
  }
  return rows;
}

std::vector<AttentionMasks> AttentionMasks::split(const std::vector<int64_t>& batch_sizes) const {
  std::vector<AttentionMasks> parts(batch_sizes.size());
  for (const auto& [name, mask] : masks_) {
    const std::vector<BlockMask> masks = mask.split(batch_sizes);
    for (size_t i = 0; i < parts.size(); ++i) parts[i].insert(name, masks[i]);
  }
  return parts;
}

}  // namespace tessera
