// Unprivileged: while such an object lives, the process acts as `nobody` if it is root, because
// permission tests mean nothing to root.
#pragma once

#include <unistd.h>

#include <exception>
#include <stdexcept>

namespace tessera::testing {

class Unprivileged {
 public:
  Unprivileged() : user_(geteuid()) {
    if (user_ == 0 && seteuid(kNobody) != 0) throw std::runtime_error("seteuid failed");
  }
  ~Unprivileged() {
    if (user_ == 0 && seteuid(user_) != 0) std::terminate();
  }
  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;

 private:
  static constexpr uid_t kNobody = 65534;
  uid_t user_;
};

}  // namespace tessera::testing
