// World and DeviceMesh: joining, groups, values, and what is said when ranks are missing.
#include "parallel/comm/world.h"

#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>

#include "parallel/comm/device_mesh.h"
#include "tests/support/errors.h"
#include "tests/support/run_ranks.h"

namespace tessera {
namespace {

using std::chrono::milliseconds;
using testing::run_ranks;

// A port of this machine that is free, or taken for as long as the object lives.
class Port {
 public:
  explicit Port(bool taken) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(taken ? INADDR_ANY : INADDR_LOOPBACK);
    bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address);
    socklen_t size = sizeof address;
    getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    number = ntohs(address.sin_port);
    if (taken) listen(socket_, 1);
    if (!taken) close(std::exchange(socket_, -1));
  }
  ~Port() {
    if (socket_ >= 0) close(socket_);
  }
  int64_t number = 0;

 private:
  int socket_;
};

TEST(World, OneRankNeedsNoNetwork) {
  const World world = World::connect({.port = 1});
  EXPECT_EQ(world.size(), 1);
  EXPECT_EQ(world.all().size(), 1);
  EXPECT_TRUE(world.silent_ranks(milliseconds(1)).empty());
  world.publish("key", "value");
  EXPECT_ERROR(world.read("key"), "World::read(\"key\")", "one rank");
}

TEST(World, RanksJoinOverTcpAndShareValues) {
  const Port port(/*taken=*/false);
  const auto join = [&](int64_t rank) {
    const World world = World::connect({.rank = rank, .size = 2, .port = port.number});
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
  const Port port(/*taken=*/false);
  const std::string error = testing::message_of([&] {
    World::connect({.rank = 0, .size = 3, .port = port.number, .timeout = milliseconds(300)});
  });
  EXPECT_THAT(error, ::testing::HasSubstr("2 of 3 ranks did not join"));
  EXPECT_THAT(error, ::testing::HasSubstr("within 0.3 s"));
  EXPECT_THAT(error, ::testing::HasSubstr("ranks 1, 2"));
}

TEST(World, APortInUseAndAMissingStoreAreNamed) {
  const Port taken(/*taken=*/true);
  const std::string address = "127.0.0.1:" + std::to_string(taken.number);
  EXPECT_THAT(
      testing::message_of([&] { World::connect({.rank = 0, .size = 2, .port = taken.number}); }),
      ::testing::HasSubstr("rank 0 cannot serve the store of this run at " + address));
  const Port free(/*taken=*/false);
  EXPECT_THAT(
      testing::message_of([&] {
        World::connect({.rank = 1, .size = 2, .port = free.number, .timeout = milliseconds(300)});
      }),
      ::testing::HasSubstr("rank 1 cannot reach the store"));
}

// The error is that of a build without NCCL, or of a machine without so many devices.
TEST(World, ACudaDeviceThatIsNotThereIsOneErrorOnEachRank) {
  const Port port(/*taken=*/false);
  const auto join = [&](int64_t rank) {
    const World world = World::connect({.rank = rank,
                                        .size = 2,
                                        .port = port.number,
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

TEST(World, SilentRanksAreThoseThatDoNotReport) {
  run_ranks(3, [](const World& world) {
    if (world.rank() == 1) return;
    EXPECT_EQ(world.silent_ranks(milliseconds(500)), std::vector<int64_t>{1});
  });
}

TEST(World, TimeoutsOfGroupsCanBeShortened) {
  run_ranks(2, [](const World& world) {
    const ProcessGroup group = world.all();
    world.set_timeout(milliseconds(200));
    if (world.rank() == 1) {
      world.silent_ranks(milliseconds(5000));  // stays connected until rank 0 has failed
      return;
    }
    const at::Tensor x = at::tensor(std::vector<double>{1.0});
    EXPECT_THAT(testing::message_of([&] { group.all_reduce(x).wait(); }),
                ::testing::HasSubstr("Timed out"));
    EXPECT_TRUE(world.silent_ranks(milliseconds(5000)).empty());
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
