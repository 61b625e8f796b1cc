// The memory of flex attention grows with the number of tokens, not with its square: counted in the
// allocator that every tensor on the CPU comes from. (Buffers that are no tensors belong to one
// block of tokens and one thread.) scripts/bench/attention --memory shows the same of the whole
// process.
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tests/attention/op/attention_cases.h"

namespace tessera {
namespace {

using testing::AttentionInputs;
using testing::backend;
using testing::random_inputs;

// Counts the bytes that are alive, and the most there ever were, on however many threads.
class CountingAllocator : public c10::Allocator {
 public:
  CountingAllocator() : inner_(c10::GetDefaultCPUAllocator()) {
    c10::SetCPUAllocator(this, /*priority=*/10);
  }
  ~CountingAllocator() override { c10::SetCPUAllocator(inner_, /*priority=*/10); }

  c10::DataPtr allocate(size_t num_bytes) override {
    auto* block = new Block{inner_->allocate(num_bytes), static_cast<int64_t>(num_bytes), this};
    raise_peak(live_ += block->num_bytes);
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
  void raise_peak(int64_t live) {
    int64_t peak = peak_;
    while (peak < live && !peak_.compare_exchange_weak(peak, live)) {
    }
  }
  static void release(void* pointer) {
    auto* block = static_cast<Block*>(pointer);
    block->owner->live_ -= block->num_bytes;
    delete block;
  }

  c10::Allocator* inner_;
  std::atomic<int64_t> live_ = 0;
  std::atomic<int64_t> peak_ = 0;
};

// While this lives, `num_threads` compute.
class NumThreads {
 public:
  explicit NumThreads(int num_threads) : before_(at::get_num_threads()) {
    at::set_num_threads(num_threads);
  }
  ~NumThreads() { at::set_num_threads(before_); }
  NumThreads(const NumThreads&) = delete;
  NumThreads& operator=(const NumThreads&) = delete;

 private:
  int before_;
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

// The bytes of T x S scores of both heads.
int64_t score_bytes(int64_t tokens) { return int64_t{2} * tokens * tokens * 4; }

// One thread takes its units of work in their order, so that the peak is a number. Between these
// lengths only the blocks of a unit differ: every tensor grows by the same bytes for each token.
TEST(FlexMemoryTest, GrowsWithTheTokensNotWithTheirSquare) {
  const NumThreads one(1);
  CountingAllocator allocator;
  const auto peak = [&](int64_t tokens) { return peak_bytes(allocator, "flex", tokens); };
  const int64_t small = peak(1024);
  const int64_t growth = peak(2048) - small;
  EXPECT_GT(small, 1024 * 2 * 64 * 4);
  EXPECT_EQ(peak(8192) - small, 7 * growth);
  // The allocator counts a T x S matrix where there is one.
  EXPECT_GT(peak_bytes(allocator, "eager", 1024), score_bytes(1024));
}

// Which thread takes which unit, and when it frees what, is chance. But a thread's buffers only
// grow, to what its largest unit needs, and while one is replaced by a larger one both are there:
// it holds at most twice what a thread that runs all units holds at its end. That, with the results
// that all threads share, is at most the peak of one thread, whence the bound for n of them.
TEST(FlexMemoryTest, EachThreadAddsAtMostTwiceWhatOneThreadNeeds) {
  constexpr int64_t kTokens = 8192;
  constexpr int kThreads = 4;
  CountingAllocator allocator;
  const auto peak_with = [&](int num_threads) {
    const NumThreads threads(num_threads);
    return peak_bytes(allocator, "flex", kTokens);
  };
  const int64_t most = 2 * kThreads * peak_with(1);
  EXPECT_LE(peak_with(kThreads), most);
  EXPECT_LT(most, score_bytes(kTokens)) << "the bound tells a T x S matrix from none";
}

}  // namespace
}  // namespace tessera
