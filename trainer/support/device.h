// The device that a rank computes on, its name, and dtypes by name.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace tessera {

// CUDA device `local_rank` when LibTorch sees any, else the CPU. Throws c10::Error when the machine
// shows fewer devices than that.
at::Device choose_device(int64_t local_rank);

// The driver's name of a CUDA card (nothing when cards of several kinds are there), the processor's
// model name for the CPU.
std::string device_name(at::Device device);

// The type that a validated dtype key names: "float32", "bfloat16" or "float16".
at::ScalarType scalar_type(const std::string& name);

}  // namespace tessera
