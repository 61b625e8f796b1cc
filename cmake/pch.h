// The one precompiled header. Every target reuses it, so it must be compiled with the flags that
// they have in common. Internal to the build (cmake/TesseraTargets.cmake): sources include what
// they use and do not name this file.
//
// Measured with g++ 12 on an empty file: this header 0.8 s, ATen/ATen.h 2.3 s, with autograd's
// custom_function.h 3.9 s (the compiler instantiates again, in every file, the templates that
// inline functions of a header use). So it holds Tensor and the standard library; sources include
// the <ATen/ops/...> they use.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
