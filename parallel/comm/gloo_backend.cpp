// The only file that sees ProcessGroupGloo.hpp; see cmake/gloo_stub/gloo/context.h.
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "parallel/comm/backends.h"
#include "parallel/comm/process_group_impl.h"

namespace tessera {

c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const BackendRequest& request) {
  using Gloo = c10d::ProcessGroupGloo;
  const auto options = Gloo::Options::create(request.timeout);
  // Gloo gets one thread: LibTorch 2.13 notes the name of the last operation in a string that its
  // threads share without a lock, and names of more than 15 letters (ALLGATHER_COALESCED) are then
  // freed twice.
  options->threads = 1;
  if (!request.network_interface.empty()) {
    options->devices.push_back(Gloo::createDeviceForInterface(request.network_interface));
  } else if (request.loopback) {
    options->devices.push_back(Gloo::createDeviceForHostname("127.0.0.1"));
  } else {
    options->devices.push_back(Gloo::createDefaultDevice());
  }
  try {
    return c10::make_intrusive<Gloo>(request.store, static_cast<int>(request.rank),
                                     static_cast<int>(request.size), options);
  } catch (const std::exception& error) {  // of any type: the store's, the sockets'
    throw CommError(backend_message(error));
  }
}

}  // namespace tessera
