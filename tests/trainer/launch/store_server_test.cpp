#include "trainer/launch/store_server.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "tests/support/errors.h"

namespace tessera {
namespace {

c10::intrusive_ptr<c10d::Store> client(int64_t port) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.waitWorkers = false;
  options.timeout = std::chrono::seconds(20);
  return c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
}

TEST(StoreServer, ServesClientsOnAFreePort) {
  const StoreServer server(0);
  ASSERT_GT(server.port(), 0);
  const auto writer = client(server.port());
  const auto reader = client(server.port());
  writer->set("key", std::string("value"));
  EXPECT_EQ(reader->get_to_str("key"), "value");
  const StoreServer other(0);
  EXPECT_NE(other.port(), server.port());
}

TEST(StoreServer, APortInUseIsRefusedByNumber) {
  const StoreServer server(0);
  EXPECT_ERROR(StoreServer(server.port()), "port " + std::to_string(server.port()),
               "address already in use");
}

TEST(StoreServer, ItsThreadTakesNoSignalsFromUs) {
  sigset_t ours, old_mask, pending;
  sigemptyset(&ours);
  sigaddset(&ours, SIGUSR1);
  const StoreServer server(0);
  pthread_sigmask(SIG_BLOCK, &ours, &old_mask);
  kill(getpid(), SIGUSR1);  // would kill this process if another thread took it
  sigpending(&pending);
  EXPECT_TRUE(sigismember(&pending, SIGUSR1));
  int taken = 0;
  sigwait(&ours, &taken);
  pthread_sigmask(SIG_SETMASK, &old_mask, nullptr);
}

}  // namespace
}  // namespace tessera
