// Tiles: rectangles of a tensor that several ranks or files hold, and how two cuttings of one
// tensor meet. Plain values.
//
//   check_tiling("wq.weight", {5, 4}, {{{0, 0}, {3, 4}}, {{3, 0}, {2, 4}}});   // throws unless
//   exact const std::optional<Tile> common = overlap(mine, saved); part_of(my_tensor, mine,
//   *common).copy_(part_of(saved_tensor, saved, *common));
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tessera {

struct Tile {
  std::vector<int64_t> offset;  // in the whole tensor, per dimension
  std::vector<int64_t> shape;
  int64_t numel() const;
  bool operator==(const Tile&) const = default;
};

// What two tiles of one tensor have in common; nothing when that has no element.
std::optional<Tile> overlap(const Tile& a, const Tile& b);

// The view of `tensor`, which holds `whole`, where `part` lies inside it.
at::Tensor part_of(const at::Tensor& tensor, const Tile& whole, const Tile& part);

// Throws c10::Error naming `name` unless the tile lies inside a tensor of this shape.
void check_inside(const std::string& name, const std::vector<int64_t>& shape, const Tile& tile);

// Throws c10::Error naming `name` and the first place where the tiles do not hold every element of
// a tensor of this shape exactly once, or lie outside of it. Tiles without elements are allowed.
// Takes time proportional to the tiles when they are cells of one grid, as ranks cut.
void check_tiling(const std::string& name, const std::vector<int64_t>& shape,
                  const std::vector<Tile>& tiles);

}  // namespace tessera
