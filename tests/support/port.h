// Ports of this machine for tests.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace tessera::testing {

// A port that the system gives to nobody else while this lives, and at which a server that names it
// (and reuses addresses, as c10d's does) can still listen: a port that was merely free a moment ago
// may be anybody's.
class ReservedPort {
 public:
  ReservedPort() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int yes = 1;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    if (setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(socket_, any, size) != 0 || getsockname(socket_, any, &size) != 0) {
      throw std::system_error(errno, std::generic_category(), "no port");
    }
    number_ = ntohs(address.sin_port);
  }
  ~ReservedPort() { close(socket_); }
  ReservedPort(const ReservedPort&) = delete;
  ReservedPort& operator=(const ReservedPort&) = delete;

  int64_t number() const { return number_; }
  void take() const { listen(socket_, 1); }  // from now on nobody else can listen there

 private:
  int socket_;
  int64_t number_ = 0;
};

}  // namespace tessera::testing
