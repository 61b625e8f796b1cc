#include "data/files/rectangle.h"

#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>

#include <algorithm>

namespace tessera {
namespace {

std::string text_of(const Tile& tile) {
  return c10::str("offset ", at::IntArrayRef(tile.offset), " shape ", at::IntArrayRef(tile.shape));
}

// The cells between the cuts that the tiles make in each dimension.
class CellGrid {
 public:
  CellGrid(const std::vector<int64_t>& shape, const std::vector<Tile>& tiles)
      : cuts_(shape.size()) {
    int64_t num_cells = 1;
    for (size_t dim = 0; dim < shape.size(); ++dim) {
      std::vector<int64_t>& cuts = cuts_[dim];
      cuts = {0, shape[dim]};
      for (const Tile& tile : tiles) {
        cuts.push_back(tile.offset[dim]);
        cuts.push_back(tile.offset[dim] + tile.shape[dim]);
      }
      std::sort(cuts.begin(), cuts.end());
      cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
      num_cells *= static_cast<int64_t>(cuts.size()) - 1;
    }
    is_covered_.assign(static_cast<size_t>(num_cells), false);
  }

  // Marks the tile's cells; returns the first one that another tile has, if any.
  std::optional<Tile> add(const Tile& tile) {
    std::vector<size_t> first, last;
    for (size_t dim = 0; dim < cuts_.size(); ++dim) {
      first.push_back(index_of(dim, tile.offset[dim]));
      last.push_back(index_of(dim, tile.offset[dim] + tile.shape[dim]));
    }
    std::vector<size_t> cell = first;
    do {
      auto covered = is_covered_[flat_index(cell)];
      if (covered) return tile_of(cell);
      covered = true;
    } while (advance(cell, first, last));
    return std::nullopt;
  }

  std::optional<Tile> first_gap() const {
    if (is_covered_.empty()) return std::nullopt;
    std::vector<size_t> first(cuts_.size(), 0), last;
    for (const std::vector<int64_t>& cuts : cuts_) last.push_back(cuts.size() - 1);
    std::vector<size_t> cell = first;
    do {
      if (!is_covered_[flat_index(cell)]) return tile_of(cell);
    } while (advance(cell, first, last));
    return std::nullopt;
  }

 private:
  size_t index_of(size_t dim, int64_t cut) const {
    const std::vector<int64_t>& cuts = cuts_[dim];
    return static_cast<size_t>(std::lower_bound(cuts.begin(), cuts.end(), cut) - cuts.begin());
  }

  size_t flat_index(const std::vector<size_t>& cell) const {
    size_t index = 0;
    for (size_t dim = 0; dim < cell.size(); ++dim) {
      index = index * (cuts_[dim].size() - 1) + cell[dim];
    }
    return index;
  }

  // The next cell of the box [first, last), the last dimension fastest; false after its last.
  static bool advance(std::vector<size_t>& cell, const std::vector<size_t>& first,
                      const std::vector<size_t>& last) {
    for (size_t dim = cell.size(); dim-- > 0;) {
      if (++cell[dim] < last[dim]) return true;
      cell[dim] = first[dim];
    }
    return false;
  }

  Tile tile_of(const std::vector<size_t>& cell) const {
    Tile tile;
    for (size_t dim = 0; dim < cell.size(); ++dim) {
      tile.offset.push_back(cuts_[dim][cell[dim]]);
      tile.shape.push_back(cuts_[dim][cell[dim] + 1] - cuts_[dim][cell[dim]]);
    }
    return tile;
  }

  std::vector<std::vector<int64_t>> cuts_;
  std::vector<bool> is_covered_;
};

}  // namespace

int64_t Tile::numel() const { return c10::multiply_integers(shape); }

std::optional<Tile> overlap(const Tile& a, const Tile& b) {
  TORCH_INTERNAL_ASSERT(a.offset.size() == b.offset.size());
  Tile common;
  for (size_t dim = 0; dim < a.offset.size(); ++dim) {
    const int64_t begin = std::max(a.offset[dim], b.offset[dim]);
    const int64_t end = std::min(a.offset[dim] + a.shape[dim], b.offset[dim] + b.shape[dim]);
    if (begin >= end) return std::nullopt;
    common.offset.push_back(begin);
    common.shape.push_back(end - begin);
  }
  return common;
}

at::Tensor part_of(const at::Tensor& tensor, const Tile& whole, const Tile& part) {
  TORCH_INTERNAL_ASSERT(tensor.sizes() == at::IntArrayRef(whole.shape));
  at::Tensor view = tensor;
  for (size_t dim = 0; dim < part.offset.size(); ++dim) {
    view = view.narrow(static_cast<int64_t>(dim), part.offset[dim] - whole.offset[dim],
                       part.shape[dim]);
  }
  return view;
}

void check_inside(const std::string& name, const std::vector<int64_t>& shape, const Tile& tile) {
  bool is_inside = tile.offset.size() == shape.size() && tile.shape.size() == shape.size();
  for (size_t dim = 0; is_inside && dim < shape.size(); ++dim) {
    is_inside = tile.offset[dim] >= 0 && tile.shape[dim] >= 0 &&
                tile.shape[dim] <= shape[dim] - tile.offset[dim];
  }
  TORCH_CHECK(is_inside, name, ": part at ", text_of(tile), " does not lie inside the tensor of ",
              at::IntArrayRef(shape));
}

void check_tiling(const std::string& name, const std::vector<int64_t>& shape,
                  const std::vector<Tile>& tiles) {
  std::vector<Tile> filled;
  for (const Tile& tile : tiles) {
    check_inside(name, shape, tile);
    if (tile.numel() > 0) filled.push_back(tile);
  }
  CellGrid grid(shape, filled);
  for (const Tile& tile : filled) {
    const std::optional<Tile> twice = grid.add(tile);
    TORCH_CHECK(!twice, name, ": parts overlap at ", text_of(*twice), ", expected each element of ",
                at::IntArrayRef(shape), " once");
  }
  const std::optional<Tile> gap = grid.first_gap();
  TORCH_CHECK(!gap, name, ": no part holds ", text_of(*gap), ", expected each element of ",
              at::IntArrayRef(shape), " once");
}

}  // namespace tessera
