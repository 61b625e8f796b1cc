// The only file that sees ProcessGroupNCCL.hpp. It is compiled in every build; NCCL is available
// with TESSERA_NCCL, which CMake sets when the wheel and the machine have what the header needs.
#include <c10/util/Exception.h>

#ifdef TESSERA_NCCL
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "parallel/comm/backends.h"

namespace tessera {

#ifdef TESSERA_NCCL

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const BackendRequest& request) {
  const int64_t num_devices = c10::cuda::device_count();
  TORCH_CHECK(request.device_index >= 0 && request.device_index < num_devices,
              "NCCL: this rank is to use CUDA device ", request.device_index,
              ", but this machine shows ", num_devices,
              " devices; expected one for each of its ranks");
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
  TORCH_CHECK(
      false,
      "a rank on a CUDA device needs NCCL, which this build is without: configure with a CUDA "
      "wheel and -DTESSERA_CUDA=ON");
}

#endif

}  // namespace tessera
