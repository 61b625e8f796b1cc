// The memory of flex attention grows with the number of tokens, not with its square: counted in the
// allocator that every tensor on the CPU comes from. (Buffers that are no tensors belong to one
// block of tokens and one thread.) scripts/bench/attention --memory shows the same of the whole
// process.
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "tests/attention/op/attention_cases.h"

namespace tessera {
namespace {

using testing::AttentionInputs;
using testing::backend;
using testing::random_inputs;

// Counts the bytes that are alive, and the most there ever were.
class CountingAllocator : public c10::Allocator {
 public:
  CountingAllocator() : inner_(c10::GetDefaultCPUAllocator()) {
    c10::SetCPUAllocator(this, /*priority=*/10);
  }
  ~CountingAllocator() override { c10::SetCPUAllocator(inner_, /*priority=*/10); }

  c10::DataPtr allocate(size_t num_bytes) override {
    auto* block = new Block{inner_->allocate(num_bytes), static_cast<int64_t>(num_bytes), this};
    live_ += block->num_bytes;
    peak_ = std::max<int64_t>(peak_, live_);
    return {block->data.get(), block, &release, at::kCPU};
  }
  void copy_data(void* to, const void* from, size_t count) const override {
    default_copy_data(to, from, count);
  }

  // Bytes that `work` needs at most beyond those that are alive when it starts.
  template <typename Work>
  int64_t peak_of(Work work) {
    const int64_t before = live_;
    peak_ = before;
    work();
    return peak_ - before;
  }

 private:
  struct Block {
    c10::DataPtr data;
    int64_t num_bytes;
    CountingAllocator* owner;
  };
  static void release(void* pointer) {
    auto* block = static_cast<Block*>(pointer);
    block->owner->live_ -= block->num_bytes;
    delete block;
  }

  c10::Allocator* inner_;
  std::atomic<int64_t> live_ = 0;
  std::atomic<int64_t> peak_ = 0;
};

// The peak of a forward and a backward pass; masks are made once per step and are not counted.
int64_t peak_bytes(CountingAllocator& allocator, const std::string& name, int64_t tokens) {
  const AttentionInputs in = random_inputs({.batch = 1,
                                            .q_len = tokens,
                                            .kv_len = tokens,
                                            .heads = 2,
                                            .kv_heads = 1,
                                            .head_dim = 64,
                                            .value_dim = 64},
                                           at::kFloat);
  const BlockMask mask = create_block_mask(causal() & sliding_window({.left = 100}),
                                           {.q_len = tokens, .kv_len = tokens});
  return allocator.peak_of([&] {
    const AttentionOutput output = backend(name)(in.q_BTHD, in.k_BSKD, in.v_BSKE, mask);
    output.out_BTHE.backward(in.d_out_BTHE);
  });
}

TEST(FlexMemoryTest, GrowsWithTheTokensNotWithTheirSquare) {
  CountingAllocator allocator;
  const auto peak = [&](int64_t tokens) {
    return static_cast<double>(peak_bytes(allocator, "flex", tokens));
  };
  const double small = peak(1024);
  const double growth = peak(2048) - small;
  EXPECT_GT(small, 1024 * 2 * 64 * 4);
  EXPECT_NEAR((peak(8192) - small) / growth, 7.0, 0.05);
  // The allocator counts a T x S matrix where there is one.
  const int64_t eager = peak_bytes(allocator, "eager", 1024);
  EXPECT_GT(eager, int64_t{2} * 1024 * 1024 * 4);
}

}  // namespace
}  // namespace tessera
