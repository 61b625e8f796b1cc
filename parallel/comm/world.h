// World: all ranks of a run, how they find each other, and where process groups come from.
//
//   World world;                                             // one rank, no network
//   World world = World::connect({.rank = 1, .size = 4, .address = "10.0.0.1"});
//   ProcessGroup tp = world.group("tp", {2, 3});
//
// Ranks may also be threads of one process (tests, and numerics on a laptop):
//
//   std::vector<World> worlds = World::in_one_process(4);     // worlds[r] goes to thread r
//
// A World is a cheap handle; copies share groups. One thread uses a rank's World at a time. When
// the last copy goes the others hear that this rank has ended, so groups go before it; rank 0 waits
// for the others then, if it serves the store.
#pragma once

#include <c10/core/DeviceType.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/process_group.h"

namespace tessera {

struct WorldOptions {
  int64_t rank = 0;
  int64_t size = 1;
  std::string address = "127.0.0.1";  // of the store
  int64_t port = 29500;
  bool store_is_served = false;  // a launcher already serves the store; otherwise rank 0 does
  int64_t attempt = 0;           // restarts so far: each has keys of its own in a served store
  c10::DeviceType device = c10::DeviceType::CPU;  // Gloo for the CPU, NCCL for CUDA
  int64_t device_index = 0;                       // this rank's, for NCCL
  std::string network_interface = {};             // for Gloo, e.g. "eth0"; found when empty
  std::chrono::milliseconds timeout{300 * 1000};  // of joining, and of every operation
  std::chrono::milliseconds grace{3 * 1000};      // without a sign of life until a rank is lost
};

// What became of the other ranks when one met a CommError.
struct OtherRanks {
  std::vector<int64_t> lost;   // no sign of life: died, or hang with their whole process
  std::vector<int64_t> ended;  // in order, for a reason of their own
  std::vector<int64_t> going;  // live, and have met no error: slow, or in a part that hangs
};

class World {
 public:
  World();  // one rank

  // Joins the other ranks through the store, a TCPStore at address:port. Throws CommError naming
  // the ranks that did not join in time, or saying that the port is in use or the store does not
  // answer; c10::Error for a rank, size or port out of range.
  static World connect(const WorldOptions& options);

  // `size` ranks that will be threads of this process.
  static std::vector<World> in_one_process(
      int64_t size, std::chrono::milliseconds timeout = std::chrono::seconds(60));

  // Rank `rank` of `size` for planning: its groups know their ranks and have no connections, so
  // that whatever communicates throws c10::Error.
  static World planned(int64_t rank, int64_t size);

  int64_t rank() const;
  int64_t size() const;

  // The group of these global ranks (ascending, this one among them; c10::Error otherwise). Its
  // members call this in the same order. A second group of the same ranks shares the first one's
  // connections. Throws CommError when the members cannot connect.
  ProcessGroup group(const std::string& name, const std::vector<int64_t>& ranks) const;
  ProcessGroup all() const;  // every rank

  // Sets the timeout of joining groups, of read() and of every group's operations that start after
  // the call.
  void set_timeout(std::chrono::milliseconds timeout) const;

  // Small values for other ranks, through the store. read() waits for the key and throws CommError
  // after the timeout. With one rank publish() does nothing and read() throws c10::Error.
  void publish(const std::string& key, const std::string& value) const;
  std::string read(const std::string& key) const;

  // Every rank calls this that met a CommError. A rank that lives is never among the lost ones,
  // however slow it is: each process has a thread that tells of it, and the grace is counted in
  // heartbeats of our own. Returns at once when all others have failed or ended; else after the
  // grace, twice that for a rank of irregular beats. Throws CommError when the store is gone as
  // well.
  OtherRanks report_failure() const;

  struct Impl;

 private:
  explicit World(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace tessera
