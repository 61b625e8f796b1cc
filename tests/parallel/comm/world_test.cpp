// World and DeviceMesh: joining, groups, values, and what is said when ranks are missing.
#include "parallel/comm/world.h"

#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <atomic>
#include <future>
#include <latch>
#include <thread>
#include <utility>

#include "parallel/comm/device_mesh.h"
#include "parallel/comm/world_impl.h"
#include "tests/support/errors.h"
#include "tests/support/port.h"
#include "tests/support/run_ranks.h"

namespace tessera {
namespace {

using std::chrono::milliseconds;
using testing::ReservedPort;
using testing::run_ranks;

// A store that no rank serves.
struct Server {
  c10::intrusive_ptr<c10d::TCPStore> store = c10::make_intrusive<c10d::TCPStore>(
      "127.0.0.1", c10d::TCPStoreOptions{.port = 0, .isServer = true, .waitWorkers = false});
};

TEST(World, OneRankNeedsNoNetwork) {
  const World world = World::connect({.port = 1});
  EXPECT_EQ(world.size(), 1);
  EXPECT_EQ(world.all().size(), 1);
  EXPECT_TRUE(world.report_failure().lost.empty());
  world.publish("key", "value");
  EXPECT_ERROR(world.read("key"), "World::read(\"key\")", "one rank");
}

TEST(World, RanksJoinOverTcpAndShareValues) {
  const ReservedPort port;
  const auto join = [&](int64_t rank) {
    const World world = World::connect({.rank = rank, .size = 2, .port = port.number()});
    const at::Tensor sum = at::tensor(std::vector<double>{1.0 + static_cast<double>(rank)});
    world.all().all_reduce(sum).wait();
    world.publish("config/" + std::to_string(rank), "digest" + std::to_string(rank));
    const std::string other = world.read("config/" + std::to_string(1 - rank));
    world.all().barrier();
    return other + " " + std::to_string(static_cast<int>(sum.item<double>()));
  };
  std::future<std::string> second = std::async(std::launch::async, join, 1);
  EXPECT_EQ(join(0), "digest1 3");
  EXPECT_EQ(second.get(), "digest0 3");
}

TEST(World, RanksThatDoNotJoinAreNamed) {
  const ReservedPort port;
  const std::string error = testing::message_of([&] {
    World::connect({.rank = 0, .size = 3, .port = port.number(), .timeout = milliseconds(300)});
  });
  EXPECT_THAT(error, ::testing::HasSubstr("2 of 3 ranks did not join"));
  EXPECT_THAT(error, ::testing::HasSubstr("within 0.3 s"));
  EXPECT_THAT(error, ::testing::HasSubstr("ranks 1, 2"));
}

TEST(World, APortInUseAndAMissingStoreAreNamed) {
  const ReservedPort taken;
  taken.take();
  const std::string address = "127.0.0.1:" + std::to_string(taken.number());
  EXPECT_THAT(
      testing::message_of([&] { World::connect({.rank = 0, .size = 2, .port = taken.number()}); }),
      ::testing::HasSubstr("rank 0 cannot serve the store of this run at " + address));
  const ReservedPort free;
  EXPECT_THAT(
      testing::message_of([&] {
        World::connect({.rank = 1, .size = 2, .port = free.number(), .timeout = milliseconds(300)});
      }),
      ::testing::HasSubstr("rank 1 cannot reach the store"));
}

// The error is that of a build without NCCL, or of a machine without so many devices.
TEST(World, ACudaDeviceThatIsNotThereIsOneErrorOnEachRank) {
  const ReservedPort port;
  const auto join = [&](int64_t rank) {
    const World world = World::connect({.rank = rank,
                                        .size = 2,
                                        .port = port.number(),
                                        .device = c10::DeviceType::CUDA,
                                        .device_index = 100});
    return testing::message_of([&] { world.all(); });
  };
  std::future<std::string> second = std::async(std::launch::async, join, 1);
  const auto is_named = ::testing::AnyOf(
      ::testing::HasSubstr("a rank on a CUDA device needs NCCL, which this build is without"),
      ::testing::HasSubstr("this rank is to use CUDA device 100, but this machine shows "));
  EXPECT_THAT(join(0), is_named);
  EXPECT_THAT(second.get(), is_named);
}

TEST(World, RefusesOptionsThatMakeNoSense) {
  EXPECT_ERROR(World::connect({.rank = 2, .size = 2}), "rank is 2", "0 to 1");
  EXPECT_ERROR(World::connect({.size = 2, .port = 70000}), "port", "70000", "65535");
}

TEST(World, GroupsAreRefusedWithoutThisRankOrOutOfOrder) {
  run_ranks(2, [](const World& world) {
    EXPECT_ERROR(world.group("g", {1 - world.rank()}), "\"g\"", "among them");
    EXPECT_ERROR(world.group("g", {1, 0}), "\"g\"", "ascending");
    EXPECT_ERROR(world.group("g", {0, 1, 2}), "\"g\"", "from 0 to 1");
  });
}

// Ranks of one process whose silence is noticed soon.
std::vector<World> quick_worlds(int64_t size) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<World> worlds;
  for (int64_t rank = 0; rank < size; ++rank) {
    worlds.push_back(World::Impl::over(
        store, store,
        {.rank = rank, .size = size, .store_is_served = true, .grace = milliseconds(120)}));
  }
  return worlds;
}

TEST(World, OfTheOthersAfterAFailureEachIsToldHowItIs) {
  std::vector<World> worlds = quick_worlds(4);
  std::thread failed([&] { worlds[1].report_failure(); });
  std::exchange(worlds[2], World());
  const OtherRanks others = worlds[0].report_failure();  // rank 3 computes
  failed.join();
  EXPECT_THAT(others.lost, ::testing::IsEmpty());
  EXPECT_THAT(others.ended, ::testing::ElementsAre(2));
  EXPECT_THAT(others.going, ::testing::ElementsAre(3));
}

TEST(World, ARankWhoseHeartStandsStillIsLost) {
  const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::HashStore>();
  store->set(Heart::key(1), to_text({.num_beats = 7}));
  const World world = World::Impl::over(
      store, store, {.size = 2, .store_is_served = true, .grace = milliseconds(120)});
  EXPECT_THAT(world.report_failure().lost, ::testing::ElementsAre(1));
}

TEST(World, ALostStoreIsAnErrorForWhoAsksAfterTheOthers) {
  auto server = std::make_unique<Server>();
  const auto join = [&](int64_t rank) {
    return World::connect({.rank = rank,
                           .size = 2,
                           .port = server->store->getPort(),
                           .store_is_served = true,
                           .grace = milliseconds(120)});
  };
  std::future<World> second = std::async(std::launch::async, join, 1);
  const World first = join(0);
  second.get();
  server.reset();
  EXPECT_ERROR(first.report_failure(), "the store at 127.0.0.1:", "is gone as well: ");
}

// It serves the store, and they may still ask.
TEST(World, Rank0StaysUntilTheOthersHaveLeft) {
  const ReservedPort port;
  const auto join = [&](int64_t rank) {
    return World::connect({.rank = rank, .size = 2, .port = port.number()});
  };
  std::future<World> joined = std::async(std::launch::async, join, 1);
  World first = join(0), second = joined.get();
  std::atomic<bool> has_left = false;
  std::thread leaving([&] {
    std::exchange(first, World());
    has_left = true;
  });
  for (int i = 0; i < 100; ++i) second.publish("key", "value " + std::to_string(i));
  EXPECT_EQ(second.read("key"), "value 99");
  EXPECT_FALSE(has_left);
  std::exchange(second, World());
  leaving.join();
}

TEST(World, TimeoutsOfGroupsCanBeShortened) {
  std::latch has_failed(1);
  run_ranks(2, [&](const World& world) {
    const ProcessGroup group = world.all();
    world.set_timeout(milliseconds(200));
    if (world.rank() == 1) return has_failed.wait();  // and stays connected
    const at::Tensor x = at::tensor(std::vector<double>{1.0});
    EXPECT_THAT(testing::message_of([&] { group.all_reduce(x).wait(); }),
                ::testing::HasSubstr("Timed out"));
    has_failed.count_down();
  });
}

TEST(DeviceMesh, GroupsFollowTheAxes) {
  run_ranks(8, [](const World& world) {
    const DeviceMesh mesh(world, {.dp_replicate = 2, .tp = 2});  // dp_shard 2
    EXPECT_EQ(mesh.dims().dp_shard, 2);
    EXPECT_EQ(mesh.tp().size(), 2);
    EXPECT_EQ(mesh.shard().size(), 2);
    EXPECT_EQ(mesh.replicate().size(), 2);
    EXPECT_EQ(mesh.loss().size(), 4);
    EXPECT_EQ(mesh.model().size(), 4);
    EXPECT_EQ(mesh.pp().size(), 1);
    EXPECT_EQ(mesh.all().size(), 8);
    EXPECT_EQ(mesh.num_batch_ranks(), 4);
    EXPECT_EQ(mesh.batch_index(), world.rank() / 2);
    EXPECT_EQ(mesh.coordinate(Axis::kTp), world.rank() % 2);

    const at::Tensor sum = at::tensor(std::vector<double>{static_cast<double>(world.rank())});
    mesh.shard().all_reduce(sum).wait();  // ranks r and r ^ 2
    EXPECT_EQ(sum.item<double>(), static_cast<double>(world.rank() + (world.rank() ^ 2)));
  });
}

TEST(DeviceMesh, DefaultIsOneRank) {
  const DeviceMesh mesh;
  EXPECT_EQ(mesh.all().size(), 1);
  EXPECT_EQ(mesh.num_batch_ranks(), 1);
  EXPECT_EQ(mesh.batch_index(), 0);
}

TEST(World, APlannedOneKnowsItsGroupsAndCannotSend) {
  const World world = World::planned(3, 512);
  const ProcessGroup group = world.group("tp", {2, 3});
  EXPECT_EQ(group.rank(), 1);
  EXPECT_EQ(group.size(), 2);
  EXPECT_ERROR(group.all_reduce(at::tensor({1.0, 2.0})), "all_reduce", "\"tp\"", "planned");
  EXPECT_ERROR(World::planned(4, 4), "rank is 4", "0 to 3");
}

}  // namespace
}  // namespace tessera
