// Rectangles of a tensor that several ranks or files hold, and how two cuttings of one
// tensor meet. Plain values.
//
//   check_tiling("wq.weight", {5, 4}, {{{0, 0}, {3, 4}}, {{3, 0}, {2, 4}}});   // does not throw
//   const std::optional<Rectangle> common = overlap(mine, saved);
//   if (common) {
//     view_of(my_tensor, mine, *common).copy_(view_of(saved_tensor, saved, *common));
//   }
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tessera {

struct Rectangle {
  std::vector<int64_t> offset;  // in the whole tensor, per dimension
  std::vector<int64_t> shape;
  int64_t numel() const;

  static Rectangle whole(std::vector<int64_t> shape);  // all of a tensor
  bool operator==(const Rectangle&) const = default;
};

// The common part of two rectangles of one tensor; no value when it has no element.
std::optional<Rectangle> overlap(const Rectangle& a, const Rectangle& b);

// The view of `tensor`, which holds the rectangle `held`, where `inside` lies in it.
at::Tensor view_of(const at::Tensor& tensor, const Rectangle& held, const Rectangle& inside);

// Throws c10::Error naming `name` unless the rectangle lies inside a tensor of this shape.
void check_inside(const std::string& name, const std::vector<int64_t>& shape,
                  const Rectangle& rectangle);

// Throws c10::Error naming `name` and the first place where the rectangles do not hold every
// element of a tensor of this shape exactly once, or lie outside of it. Rectangles without elements
// are allowed. Takes time proportional to the rectangles when they are cells of one grid, as ranks
// cut.
void check_tiling(const std::string& name, const std::vector<int64_t>& shape,
                  const std::vector<Rectangle>& rectangles);

}  // namespace tessera
