// The plan of flex attention's work, and its inner loops, without any attention.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "attention/backends/flex/tile_kernels.h"
#include "attention/backends/flex/tile_plan.h"
#include "attention/block_mask/block_mask_shared.h"
#include "tests/attention/backends/flex/bf16_emulation.h"
#include "tests/attention/masks/random_masks.h"

namespace tessera::flex {
namespace {

using testing::random_mask;

void expect_area(const TileArea& area, int row, int num_rows, int begin, int end) {
  EXPECT_EQ(area.row, row);
  EXPECT_EQ(area.num_rows, num_rows);
  EXPECT_EQ(area.span.begin, begin);
  EXPECT_EQ(area.span.end, end);
}

TEST(TileAreasTest, FollowADiagonalBySteps) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 256, .kv_len = 256});
  const TileAreas all(mask, kPad);
  const SlabAreas areas = all.at(0, 0);
  ASSERT_EQ(areas.by_columns.size(), 8U);
  ASSERT_EQ(areas.by_rows.size(), 8U);
  for (int i = 0; i < 8; ++i) {
    expect_area(areas.by_columns[i], 16 * i, 128 - 16 * i, 16 * i, 16 * (i + 1));
    expect_area(areas.by_rows[i], 16 * i, 16, 0, 16 * (i + 1));
  }
}

TEST(TileAreasTest, EndWithADocumentAndBeginWithTheNext) {
  // Documents of 40 and 88 tokens, bidirectional: two squares, cut at a row and at a panel.
  const at::Tensor ids_T = at::arange(128).ge(40).to(at::kLong);
  const BlockMask mask = create_block_mask(document(ids_T), {.q_len = 128, .kv_len = 128});
  const TileAreas all(mask, kPad);
  const SlabAreas areas = all.at(0, 0);
  ASSERT_EQ(areas.by_columns.size(), 3U);
  expect_area(areas.by_columns[0], 0, 40, 0, 32);
  expect_area(areas.by_columns[1], 0, 128, 32, 48);  // the panel where one ends
  expect_area(areas.by_columns[2], 32, 96, 48, 128);
  EXPECT_EQ(all.computed_pairs(0, 128), 40 * 32 + 128 * 16 + 96 * 80);
}

TEST(TileAreasTest, FollowAWindow) {
  const BlockMask band =
      create_block_mask(sliding_window({.left = 20, .right = 0}), {.q_len = 128, .kv_len = 128});
  const TileAreas all(band, kPad);
  const SlabAreas areas = all.at(0, 0);
  ASSERT_EQ(areas.by_columns.size(), 8U);
  ASSERT_EQ(areas.by_rows.size(), 8U);
  expect_area(areas.by_columns[2], 32, 36, 32, 48);  // keys 32 to 47 are seen by rows 32 to 67
  expect_area(areas.by_rows[4], 64, 16, 32, 80);     // rows 64 to 79 see keys 44 to 79
}

// Every live pair is in one area by columns, and every pair of those in one by rows.
TEST(TileAreasTest, HoldAllPairsOfRandomMasks) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const BlockMask mask = random_mask(seed, 300).mask;
    const BlockMaskData& data = mask.data();
    const int32_t step = seed % 2 == 0 ? kPad : kBf16Depth;
    const TileAreas all(mask, step);
    const auto count = [](std::span<const TileArea> areas, int64_t row, int64_t column) {
      int found = 0;
      for (const TileArea& area : areas) {
        found += row >= area.row && row < area.row + area.num_rows && column >= area.span.begin &&
                 column < area.span.end;
      }
      return found;
    };
    for (int32_t tile = 0; tile < data.num_tiles(); ++tile) {
      for (int64_t row = 0; row < data.shape.block.q; ++row) {
        const SlabAreas areas = all.at(tile, row / kSlabRows);
        const uint64_t* words = tile_words(data, tile) + row * data.words_per_row();
        for (int64_t column = 0; column < data.shape.block.kv; ++column) {
          const bool live = words[column / 64] >> (column % 64) & 1;
          const int by_columns = count(areas.by_columns, row, column);
          ASSERT_LE(by_columns, 1);
          ASSERT_LE(int{live}, by_columns) << row << " " << column;
          ASSERT_LE(by_columns, count(areas.by_rows, row, column)) << row << " " << column;
          ASSERT_LE(count(areas.by_rows, row, column), 1);
        }
      }
      for (const TileArea& area : all.at(tile, 0).by_columns) ASSERT_EQ(area.row % step, 0);
    }
  }
}

TEST(TilePlanTest, ForwardUnitsHoldAllBlocksOnceCostliestFirst) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const BlockMask mask = random_mask(seed, 40).mask;
    const int64_t num_threads = 1 + seed % 3;
    const std::vector<WorkUnit> units = forward_units(
        mask, TileAreas(mask, kPad), {.batch = 2, .heads = 2, .kv_heads = 2}, num_threads);
    std::set<std::tuple<int32_t, int32_t, int32_t>> seen;
    for (size_t i = 0; i < units.size(); ++i) {
      for (int32_t block = units[i].begin; block < units[i].end; ++block) {
        EXPECT_TRUE(seen.emplace(units[i].b, units[i].h, block).second);
      }
      if (i > 0) {
        EXPECT_LE(units[i].cost, units[i - 1].cost);
      }
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), 4 * mask.data().num_q_blocks());
  }
}

// Heads are cut only as far as threads need, into pieces of about the same cost.
TEST(TilePlanTest, ForwardUnitsAreSomeForEachThread) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 4096, .kv_len = 4096});
  const TileAreas areas(mask, kPad);
  const HeadCounts counts{.batch = 1, .heads = 8, .kv_heads = 2};
  EXPECT_EQ(forward_units(mask, areas, {1, 8, 8}, /*num_threads=*/2).size(), 8U);
  EXPECT_EQ(forward_units(mask, areas, counts, /*num_threads=*/1).size(), 4U);
  const std::vector<WorkUnit> units = forward_units(mask, areas, counts, /*num_threads=*/2);
  ASSERT_EQ(units.size(), 8U);
  EXPECT_LT(static_cast<double>(units.front().cost), 1.2 * static_cast<double>(units.back().cost));
}

TEST(TilePlanTest, BackwardChunksCutTheKeysOfEachHead) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 2048, .kv_len = 2048});
  const BackwardPlan plan =
      backward_plan(mask, TileAreas(mask, kPad), {.batch = 1, .heads = 8, .kv_heads = 2});
  EXPECT_EQ(plan.num_chunks, 4);
  ASSERT_EQ(plan.units.size(), 8U);
  for (int32_t head = 0; head < 2; ++head) {
    std::vector<int> owners(16);
    for (const WorkUnit& unit : plan.units) {
      for (int32_t block = unit.begin; unit.h == head && block < unit.end; ++block) ++owners[block];
    }
    EXPECT_EQ(owners, std::vector<int>(16, 1));
  }
  // The first key blocks of a causal mask are seen by most queries, so their chunk is the shortest.
  EXPECT_LT(static_cast<double>(plan.units.front().cost),
            1.35 * static_cast<double>(plan.units.back().cost));
  EXPECT_EQ(backward_plan(mask, TileAreas(mask, kPad), {4, 8, 8}).num_chunks, 1);
}

class TileKernelsTest : public ::testing::TestWithParam<size_t> {
 protected:
  const TileKernels& kernels() const { return tile_kernels(GetParam()); }

  std::vector<float> random_values(size_t count, float low = -1, float high = 1) {
    std::uniform_real_distribution<float> values(low, high);
    std::vector<float> result(count);
    for (float& x : result) x = values(random_);
    return result;
  }

  std::mt19937 random_{7};
};

size_t area(size_t rows, size_t cols) { return rows * cols; }

TEST_P(TileKernelsTest, MultiplyEqualsTheSum) {
  for (const int m : {1, 5, 6, 7, 12, 13, 64}) {
    for (const int n : {16, 48, 128}) {
      for (const int k : {0, 1, 17, 64}) {
        for (const bool transposed : {false, true}) {
          const std::vector<float> a = random_values(area(m, std::max(k, 1)));
          // In panels of their own, or in rows with a gap.
          const PanelView strides = transposed ? PanelView{nullptr, ptrdiff_t{k} * kPad, kPad}
                                               : PanelView{nullptr, kPad, n + kPad};
          const std::vector<float> b = random_values(area(std::max(k, 1), n + kPad));
          std::vector<float> c = random_values(area(m, n));
          const std::vector<float> before = c;
          const MatrixView view =
              transposed ? MatrixView{a.data(), 1, m} : MatrixView{a.data(), k, 1};
          kernels().multiply(m, n, k, view, {b.data(), strides.panel, strides.row}, c.data(), n,
                             /*accumulate=*/true);
          for (int i = 0; i < m; ++i) {
            for (int j = 0; j < n; ++j) {
              double sum = before[i * n + j];
              for (int p = 0; p < k; ++p)
                sum += double{view.data[i * view.row + p * view.col]} *
                       b[j / kPad * strides.panel + p * strides.row + j % kPad];
              ASSERT_NEAR(c[i * n + j], sum, 1e-6 * (k + 1)) << m << " " << n << " " << k;
            }
          }
        }
      }
    }
  }
}

TEST_P(TileKernelsTest, CopiesRowsAndTransposesPanels) {
  for (const int rows : {1, 5, 16}) {
    for (const int cols : {1, 15, 16, 24, 72}) {
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols));
      const int from_row = cols + 3;
      const std::vector<float> from = random_values(area(rows, from_row));
      const float untouched = 7;
      std::vector<float> copy(area(rows, cols + 2), untouched);
      kernels().copy_rows(from.data(), from_row, rows, cols, 2.0F, copy.data(), cols + 2);
      std::vector<float> panel(area(cols, kPad), untouched);
      kernels().transpose(from.data(), from_row, rows, cols, 2.0F, panel.data());
      for (int i = 0; i < kPad; ++i) {
        for (int j = 0; j < cols; ++j) {
          const float expected = i < rows ? 2 * from[i * from_row + j] : 0.0F;
          ASSERT_EQ(panel[j * kPad + i], expected) << i << " " << j;
          if (i < rows) {
            ASSERT_EQ(copy[i * (cols + 2) + j], expected) << i << " " << j;
          }
        }
        if (i < rows) {
          ASSERT_EQ(copy[i * (cols + 2) + cols], untouched);
        }
      }
    }
  }
}

// exp by way of the softmax: over the whole range, to a few units in the last place.
TEST_P(TileKernelsTest, ExponentialIsAccurate) {
  const std::vector<float> x = random_values(1600, -86, 0);
  for (size_t i = 0; i < x.size(); i += 16) {
    std::vector<float> row(x.begin() + i, x.begin() + i + 16);
    const float lse = 0;
    kernels().probabilities({row.data(), 16, 1, 16, 16}, &lse);
    for (int j = 0; j < 16; ++j) {
      const double exact = std::exp(double{x[i + j]});
      ASSERT_NEAR(row[j], exact, 4e-7 * exact) << x[i + j];
    }
  }
}

TEST_P(TileKernelsTest, SoftCapAndItsSlope) {
  std::vector<float> scores = random_values(64, -40, 40);
  const std::vector<float> before = scores;
  std::vector<float> slopes(64);
  kernels().cap_scores({scores.data(), 16, 4, 16, 16}, 5.0F, slopes.data());
  for (size_t i = 0; i < scores.size(); ++i) {
    const double t = std::tanh(double{before[i]} / 5);
    ASSERT_NEAR(scores[i], 5 * t, 5e-6);
    ASSERT_NEAR(slopes[i], 1 - t * t, 2e-6);
  }
}

uint16_t to_bf16(float x) { return c10::BFloat16(x).x; }

TEST_P(TileKernelsTest, RoundsToLeftAndRightSides) {
  for (const int rows : {1, 16, 21, 32, 50}) {
    for (const int cols : {16, 32, 48, 128}) {
      const int tall = (rows + kBf16Depth - 1) / kBf16Depth * kBf16Depth;
      const int wide = (cols + kBf16Depth - 1) / kBf16Depth * kBf16Depth;
      std::vector<float> x = random_values(area(rows, cols), -3, 3);
      const auto expected = [&](int i, int j) {
        return i < rows && j < cols ? to_bf16(x[i * cols + j]) : uint16_t{0};
      };
      const ScoreTile tile{x.data(), cols, rows, cols, cols};
      std::vector<uint16_t> left(area(tall, wide), 0xffff);
      kernels().round_to_rows(tile, left.data(), wide);
      for (int i = 0; i < (rows + kPad - 1) / kPad * kPad; ++i) {
        for (int j = 0; j < wide; ++j)
          ASSERT_EQ(left[i * wide + j], expected(i, j)) << i << " " << j;
      }
      std::vector<uint16_t> right(area(tall, cols), 0xffff);
      kernels().round_to_pairs(tile, right.data(), ptrdiff_t{tall} * kPad);
      for (int i = 0; i < tall; ++i) {
        for (int j = 0; j < cols; ++j) {
          const int at = j / kPad * tall * kPad + i / 2 * 2 * kPad + j % kPad * 2 + i % 2;
          ASSERT_EQ(right[at], expected(i, j)) << i << " " << j;
        }
      }
    }
  }
}

TEST_P(TileKernelsTest, RoundingKeepsInfinityAndNaN) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x(16, 0.0F);
  x[0] = infinity;
  x[1] = -infinity;
  x[2] = std::nanf("");
  x[3] = std::bit_cast<float>(0x7fffffffU);  // a NaN that adding half a unit would make a zero
  std::vector<uint16_t> to(area(16, 32));
  kernels().round_to_rows({x.data(), 16, 1, 16, 16}, to.data(), 32);
  EXPECT_EQ(testing::widened(to[0]), infinity);
  EXPECT_EQ(testing::widened(to[1]), -infinity);
  EXPECT_TRUE(std::isnan(testing::widened(to[2])));
  EXPECT_TRUE(std::isnan(testing::widened(to[3])));
}

// Products of bfloat16 by the processor, where it has them, equal those by their definition, with
// strides wider than the operands, and write nothing else.
TEST_P(TileKernelsTest, MultipliesBf16) {
  if (kernels().bf16 == nullptr) GTEST_SKIP() << kernels().name << " has no products of bfloat16";
  const auto random_bits = [&](size_t count) {
    std::vector<uint16_t> bits;
    for (const float x : random_values(count)) bits.push_back(to_bf16(x));
    return bits;
  };
  unsigned char outer[Bf16Kernels::kStateBytes];
  unsigned char inner[Bf16Kernels::kStateBytes];
  kernels().bf16->begin(outer);
  for (const int m : {1, 16, 20, 33, 64}) {
    for (const int n : {16, 32, 48, 128}) {
      for (const int k : {32, 64, 160}) {
        kernels().bf16->begin(inner);  // what it finds, it leaves
        kernels().bf16->end(inner);
        const int rows = (m + kPad - 1) / kPad * kPad;
        const int a_row = k + 32;
        const ptrdiff_t panel = ptrdiff_t{k + 32} * kPad;
        const int c_row = n + 16;
        const std::vector<uint16_t> a = random_bits(area(rows, a_row));
        const std::vector<uint16_t> b = random_bits(area(k + 32, n));
        for (const bool accumulate : {false, true}) {
          std::vector<float> c = random_values(area(rows + 2, c_row));
          std::vector<float> expected = c;
          const Bf16Rows left{a.data() + 32, a_row};
          const Bf16Pairs right{b.data() + ptrdiff_t{32} * kPad, panel};
          kernels().bf16->multiply(m, n, k, left, right, c.data() + c_row + 8, c_row, accumulate);
          testing::multiply_bf16(m, n, k, left, right, expected.data() + c_row + 8, c_row,
                                 accumulate);
          for (size_t i = 0; i < c.size(); ++i) ASSERT_NEAR(c[i], expected[i], 1e-6 * k) << i;
        }
      }
    }
  }
  kernels().bf16->end(outer);
}

INSTANTIATE_TEST_SUITE_P(All, TileKernelsTest, ::testing::Range<size_t>(0, num_tile_kernels()),
                         [](const auto& info) { return tile_kernels(info.param).name; });

}  // namespace
}  // namespace tessera::flex
