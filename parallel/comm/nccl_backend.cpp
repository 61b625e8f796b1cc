// The only file that sees ProcessGroupNCCL.hpp. Compiled in every build; what it can do depends on
// TESSERA_NCCL, which CMake sets when the wheel and the machine have what the header needs.
#include <c10/util/Exception.h>

#ifdef TESSERA_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "parallel/comm/backends.h"

namespace tessera {

#ifdef TESSERA_NCCL

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const BackendRequest& request) {
  const auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = request.timeout;
  auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(
      request.store, static_cast<int>(request.rank), static_cast<int>(request.size), options);
  backend->setBoundDeviceId(
      at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(request.device_index)));
  return backend;
}

#else

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const BackendRequest& /*request*/) {
  TORCH_CHECK(false,
              "ranks on CUDA devices need NCCL, which this build is without: configure with a CUDA "
              "wheel and -DTESSERA_CUDA=ON");
}

#endif

}  // namespace tessera
