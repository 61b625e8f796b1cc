// How groups come to be: none of their ranks may leave before all are connected.
#include "parallel/comm/rendezvous.h"

#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <atomic>
#include <thread>

#include "parallel/comm/device_mesh.h"
#include "tests/support/errors.h"
#include "tests/support/run_ranks.h"

namespace tessera {
namespace {

using std::chrono::milliseconds;
// A backend that moves nothing.
class IdleBackend : public c10d::Backend {
 public:
  using Backend::Backend;
  const std::string getBackendName() const override { return "idle"; }
};

c10::intrusive_ptr<c10d::Backend> idle_backend(const BackendRequest& request) {
  return c10::make_intrusive<IdleBackend>(static_cast<int>(request.rank),
                                          static_cast<int>(request.size));
}

// Two ranks that connect as `make` says.
class TwoRanks : public ::testing::Test {
 protected:
  auto connect(int64_t rank, const MakeBackend& make) const {
    return connect_group(store_, {.rank = 3 + rank, .size = 5}, "tp", {3, 4}, make);
  }
  // Whether a rank, when it is asked, has said that it is connected.
  bool has_answered(int64_t rank) const {
    return store_->check({"group/3,4/" + RollCall{.topic = "members"}.key(rank)});
  }

  c10::intrusive_ptr<c10d::Store> store_ = c10::make_intrusive<c10d::HashStore>();
};

TEST_F(TwoRanks, NoneLeavesAGroupThatAnotherIsStillConnectingTo) {
  std::atomic<bool> first_has_its_group = false;
  bool could_leave = true;
  std::thread first([&] {
    connect(0, idle_backend);
    first_has_its_group = true;
  });
  connect(1, [&](const BackendRequest& request) {
    while (!has_answered(0) && !first_has_its_group) std::this_thread::yield();
    could_leave = first_has_its_group;
    return idle_backend(request);
  });
  first.join();
  EXPECT_FALSE(could_leave);
  EXPECT_TRUE(first_has_its_group);
}

// The error comes at once: the time limit is minutes.
TEST_F(TwoRanks, ARankThatCannotConnectIsNamedByThoseThatCould) {
  std::string error;
  std::thread first([&] { error = testing::message_of([&] { connect(0, idle_backend); }); });
  EXPECT_ERROR(connect(1,
                       [](const BackendRequest&) -> c10::intrusive_ptr<c10d::Backend> {
                         throw CommError("the cable is out");
                       }),
               "rank 4: cannot connect group \"tp\" (ranks 3, 4): the cable is out");
  first.join();
  EXPECT_EQ(error,
            "rank 3: cannot connect group \"tp\" (ranks 3, 4): rank 4 could not: the cable is out");
}

TEST(ConnectGroup, ARankThatDoesNotComeIsNamed) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  const WorldOptions options = {.rank = 0, .size = 2, .timeout = milliseconds(100)};
  EXPECT_ERROR(
      connect_group(store, options, "tp", {0, 1}, idle_backend),
      "rank 0: cannot connect group \"tp\" (ranks 0, 1): not connected within 0.1 s: ", "ranks 1");
  store->setTimeout(options.timeout);
  EXPECT_ERROR(connect_group(store, options, "tp", {0, 1}, make_gloo_backend),
               "rank 0: cannot connect group \"tp\" (ranks 0, 1)");
  const RollCall half = {"half", 1, 3};
  half.answer(*store, "here");
  EXPECT_EQ(half.wait(*store, milliseconds(1)), (std::vector<int64_t>{0, 2}));
}

// Ranks leave as soon as they are done, from the groups of a mesh and with large messages on their
// way: what a rank has sent arrives although it has left.
TEST(Leaving, WhatWasSentArrives) {
  for (int round = 0; round < 5; ++round) {
    testing::run_ranks(8, [](const World& world) { DeviceMesh(world, {.cp = 2, .tp = 2}); });
    testing::run_ranks(4, [](const World& world) {
      constexpr int64_t kNumel = int64_t{1} << 20;  // 4 MiB: more than a socket holds
      const ProcessGroup all = world.all();
      const at::Tensor x = at::full({kNumel}, static_cast<float>(world.rank()));
      all.broadcast(x, 3).wait();
      EXPECT_EQ(x[kNumel - 1].item<float>(), 3);
      if (world.rank() == 0) {
        all.send(x, 1, 0).wait();
      } else if (world.rank() == 1) {
        all.receive(x, 0, 0).wait();
      }
    });
  }
}

}  // namespace
}  // namespace tessera
