#include "data/files/rectangle.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

TEST(Tiles, OverlapIsWhatBothHold) {
  const Rectangle a{{0, 2}, {4, 3}}, b{{3, 0}, {5, 4}};
  EXPECT_EQ(overlap(a, b), (Rectangle{{3, 2}, {1, 2}}));
  EXPECT_EQ(overlap(b, a), overlap(a, b));
  EXPECT_EQ(overlap(a, {{4, 2}, {1, 1}}), std::nullopt);
  EXPECT_EQ(overlap(a, {{0, 2}, {0, 3}}), std::nullopt);
  EXPECT_EQ(overlap({{}, {}}, {{}, {}}), (Rectangle{}));
}

// Every cutting into every other: the whole is put together from parts again.
TEST(Tiles, PartsOfOneCuttingFillAnother) {
  const at::Tensor whole = at::arange(5 * 7).view({5, 7});
  const Rectangle all{{0, 0}, {5, 7}};
  const std::vector<std::vector<Rectangle>> cuttings = {
      {all},
      {{{0, 0}, {3, 7}}, {{3, 0}, {2, 7}}},
      {{{0, 0}, {5, 4}}, {{0, 4}, {5, 3}}},
      {{{0, 0}, {2, 4}}, {{2, 0}, {3, 4}}, {{0, 4}, {1, 3}}, {{1, 4}, {4, 3}}}};
  for (const auto& from : cuttings) {
    check_tiling("whole", {5, 7}, from);
    for (const auto& to : cuttings) {
      const at::Tensor result = at::zeros_like(whole);
      for (const Rectangle& mine : to) {
        const at::Tensor own = view_of(result, all, mine);
        for (const Rectangle& saved : from) {
          const std::optional<Rectangle> common = overlap(mine, saved);
          if (!common) continue;
          view_of(own, mine, *common).copy_(view_of(view_of(whole, all, saved), saved, *common));
        }
      }
      EXPECT_TRUE(at::equal(result, whole));
    }
  }
}

TEST(Tiles, TilingsAreExact) {
  check_tiling("scalar", {}, {{{}, {}}});
  check_tiling("empty", {0, 4}, {});
  check_tiling("empty part", {2}, {{{0}, {2}}, {{2}, {0}}});
  EXPECT_ERROR(check_tiling("x", {}, {}), "x: no part holds");
  EXPECT_ERROR(check_tiling("x", {}, {{{}, {}}, {{}, {}}}), "x: parts overlap");
  EXPECT_ERROR(check_tiling("x", {4, 2}, {{{0, 0}, {2, 2}}, {{3, 0}, {1, 2}}}),
               "x: no part holds offset [2, 0] shape [1, 2]", "[4, 2]");
  EXPECT_ERROR(check_tiling("x", {4, 2}, {{{0, 0}, {3, 2}}, {{2, 0}, {2, 2}}}),
               "x: parts overlap at offset [2, 0] shape [1, 2]");
  // The tiles have as many elements as the tensor, but not each element once.
  EXPECT_ERROR(check_tiling("x", {4}, {{{0}, {2}}, {{1}, {2}}}), "overlap at offset [1] shape [1]");
  EXPECT_ERROR(check_tiling("x", {4}, {{{3}, {2}}}), "offset [3] shape [2]", "inside", "[4]");
  EXPECT_ERROR(check_tiling("x", {4}, {{{-1}, {2}}}), "inside");
  EXPECT_ERROR(check_tiling("x", {4}, {{{0, 0}, {2, 1}}}), "inside");
}

}  // namespace
}  // namespace tessera
