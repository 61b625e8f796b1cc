// Serves the store at which ranks meet (c10d's TCPStore), for ranks that are all clients of it.
//
// A launcher serves it rather than rank 0: the port is bound before a rank hears of it, so no other
// program can take it in between, and a rank that dies does not take the store along.
//
//   const StoreServer store(0);                                   // any free port
//   ranks_of_machine({.num_local = 4, .master_port = store.port()});
#pragma once

#include <cstdint>
#include <memory>

namespace tessera {

class StoreServer {
 public:
  // Serves on all network interfaces, from threads that take none of the process's signals. port: 0
  // for any free one. Throws c10::Error saying that the port cannot be served and why.
  explicit StoreServer(int64_t port);

  // Ends the service; calls of clients fail from then on.
  ~StoreServer();

  int64_t port() const;  // the port that is bound, never 0

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tessera
