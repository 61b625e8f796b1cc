// Internal to parallel/comm/: the c10d backends that this build has. World::group makes them.
//
// Ranks of a group find each other through the request's store. World::group turns a DistError of
// c10d into CommError.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <string>

namespace tessera {

struct BackendRequest {
  c10::intrusive_ptr<c10d::Store> store;  // keys of this group alone
  int64_t rank = 0;                       // in the group
  int64_t size = 1;
  std::chrono::milliseconds timeout{};
  std::string network_interface = {};  // Gloo: empty for the one that the host's name resolves to
  bool loopback = false;               // Gloo: all ranks are on this machine
  int64_t device_index = 0;            // NCCL
};

// Throws CommError when the ranks cannot be connected, saying why.
c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const BackendRequest& request);

// Throws c10::Error in a build without NCCL, and when there is no such device.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const BackendRequest& request);

}  // namespace tessera
