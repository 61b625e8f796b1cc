// Stand-ins for the Gloo headers that c10d/ProcessGroupGloo.hpp includes and the torch wheel does
// not ship. LibTorch's own copy of Gloo does the work: nothing here is defined or called by us, and
// gloo types occur in that header behind pointers alone.
//
// Internal to the build: included by parallel/comm/gloo_backend.cpp alone, through that header.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace gloo {

namespace transport {
class Device;
class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};
}  // namespace transport

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace rendezvous {
class Store {
 public:
  static constexpr std::chrono::milliseconds kDefaultTimeout{30000};
  virtual ~Store();
  virtual void set(const std::string& key, const std::vector<char>& data) = 0;
  virtual std::vector<char> get(const std::string& key) = 0;
  virtual void wait(const std::vector<std::string>& keys) = 0;
  virtual void wait(const std::vector<std::string>& keys,
                    const std::chrono::milliseconds& timeout) = 0;
};
}  // namespace rendezvous

}  // namespace gloo
