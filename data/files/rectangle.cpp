#include "data/files/rectangle.h"

#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>

#include <algorithm>

namespace tessera {
namespace {

std::string text_of(const Rectangle& rectangle) {
  return c10::str("offset ", at::IntArrayRef(rectangle.offset), " shape ",
                  at::IntArrayRef(rectangle.shape));
}

// The cells between the cuts that the rectangles make in each dimension.
class CellGrid {
 public:
  CellGrid(const std::vector<int64_t>& shape, const std::vector<Rectangle>& rectangles)
      : cuts_(shape.size()) {
    int64_t num_cells = 1;
    for (size_t dim = 0; dim < shape.size(); ++dim) {
      std::vector<int64_t>& cuts = cuts_[dim];
      cuts = {0, shape[dim]};
      for (const Rectangle& rectangle : rectangles) {
        cuts.push_back(rectangle.offset[dim]);
        cuts.push_back(rectangle.offset[dim] + rectangle.shape[dim]);
      }
      std::sort(cuts.begin(), cuts.end());
      cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
      num_cells *= static_cast<int64_t>(cuts.size()) - 1;
    }
    is_covered_.assign(static_cast<size_t>(num_cells), false);
  }

  // Marks the rectangle's cells; returns the first one that another rectangle has, if any.
  std::optional<Rectangle> add(const Rectangle& rectangle) {
    std::vector<size_t> first, last;
    for (size_t dim = 0; dim < cuts_.size(); ++dim) {
      first.push_back(index_of(dim, rectangle.offset[dim]));
      last.push_back(index_of(dim, rectangle.offset[dim] + rectangle.shape[dim]));
    }
    std::vector<size_t> cell = first;
    do {
      auto covered = is_covered_[flat_index(cell)];
      if (covered) return rectangle_of(cell);
      covered = true;
    } while (advance(cell, first, last));
    return std::nullopt;
  }

  std::optional<Rectangle> first_gap() const {
    if (is_covered_.empty()) return std::nullopt;
    std::vector<size_t> first(cuts_.size(), 0), last;
    for (const std::vector<int64_t>& cuts : cuts_) last.push_back(cuts.size() - 1);
    std::vector<size_t> cell = first;
    do {
      if (!is_covered_[flat_index(cell)]) return rectangle_of(cell);
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

  Rectangle rectangle_of(const std::vector<size_t>& cell) const {
    Rectangle rectangle;
    for (size_t dim = 0; dim < cell.size(); ++dim) {
      rectangle.offset.push_back(cuts_[dim][cell[dim]]);
      rectangle.shape.push_back(cuts_[dim][cell[dim] + 1] - cuts_[dim][cell[dim]]);
    }
    return rectangle;
  }

  std::vector<std::vector<int64_t>> cuts_;
  std::vector<bool> is_covered_;
};

}  // namespace

int64_t Rectangle::numel() const { return c10::multiply_integers(shape); }

Rectangle Rectangle::whole(std::vector<int64_t> shape) {
  return {.offset = std::vector<int64_t>(shape.size(), 0), .shape = std::move(shape)};
}

std::optional<Rectangle> overlap(const Rectangle& a, const Rectangle& b) {
  TORCH_INTERNAL_ASSERT(a.offset.size() == b.offset.size());
  Rectangle common;
  for (size_t dim = 0; dim < a.offset.size(); ++dim) {
    const int64_t begin = std::max(a.offset[dim], b.offset[dim]);
    const int64_t end = std::min(a.offset[dim] + a.shape[dim], b.offset[dim] + b.shape[dim]);
    if (begin >= end) return std::nullopt;
    common.offset.push_back(begin);
    common.shape.push_back(end - begin);
  }
  return common;
}

at::Tensor view_of(const at::Tensor& tensor, const Rectangle& held, const Rectangle& inside) {
  TORCH_INTERNAL_ASSERT(tensor.sizes() == at::IntArrayRef(held.shape));
  at::Tensor view = tensor;
  for (size_t dim = 0; dim < inside.offset.size(); ++dim) {
    view = view.narrow(static_cast<int64_t>(dim), inside.offset[dim] - held.offset[dim],
                       inside.shape[dim]);
  }
  return view;
}

void check_inside(const std::string& name, const std::vector<int64_t>& shape,
                  const Rectangle& rectangle) {
  bool is_inside =
      rectangle.offset.size() == shape.size() && rectangle.shape.size() == shape.size();
  for (size_t dim = 0; is_inside && dim < shape.size(); ++dim) {
    is_inside = rectangle.offset[dim] >= 0 && rectangle.shape[dim] >= 0 &&
                rectangle.shape[dim] <= shape[dim] - rectangle.offset[dim];
  }
  TORCH_CHECK(is_inside, name, ": part at ", text_of(rectangle),
              " does not lie inside the tensor of ", at::IntArrayRef(shape));
}

void check_tiling(const std::string& name, const std::vector<int64_t>& shape,
                  const std::vector<Rectangle>& rectangles) {
  std::vector<Rectangle> filled;
  for (const Rectangle& rectangle : rectangles) {
    check_inside(name, shape, rectangle);
    if (rectangle.numel() > 0) filled.push_back(rectangle);
  }
  CellGrid grid(shape, filled);
  for (const Rectangle& rectangle : filled) {
    const std::optional<Rectangle> twice = grid.add(rectangle);
    TORCH_CHECK(!twice, name, ": parts overlap at ", text_of(*twice), ", expected each element of ",
                at::IntArrayRef(shape), " once");
  }
  const std::optional<Rectangle> gap = grid.first_gap();
  TORCH_CHECK(!gap, name, ": no part holds ", text_of(*gap), ", expected each element of ",
              at::IntArrayRef(shape), " once");
}

}  // namespace tessera
