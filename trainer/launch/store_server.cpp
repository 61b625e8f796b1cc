#include "trainer/launch/store_server.h"

#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <csignal>

namespace tessera {
namespace {

// Threads that are started while this lives get no signals, which are for the main thread.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old_mask_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t old_mask_{};
};

c10::intrusive_ptr<c10d::TCPStore> serve(int64_t port) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.isServer = true;
  options.waitWorkers = false;
  const SignalsBlocked blocked;
  try {
    return c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
  } catch (const c10::Error& error) {
    C10_THROW_ERROR(Error, c10::str("the store cannot be served on port ", port,
                                    ", expected a free one (--master-port, or 0 for any): ",
                                    error.what_without_backtrace()));
  }
}

}  // namespace

struct StoreServer::Impl {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

StoreServer::StoreServer(int64_t port) : impl_(std::make_unique<Impl>(Impl{serve(port)})) {}

StoreServer::~StoreServer() = default;

int64_t StoreServer::port() const { return impl_->store->getPort(); }

}  // namespace tessera
