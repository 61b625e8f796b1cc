// Counter-based initialisation: element i of a parameter is a function of (seed, parameter name, i)
// alone.
//
// Element i takes lane i % 4 of Philox4x32-10 with counter i / 4 and key hash(seed, name), so the
// bits are the same for the whole parameter, for any shard of it, for any number of threads and on
// every x86-64 machine.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/slot.h"

namespace tessera {

// Fills `shard` (any floating dtype; values are made in float32 and cast) with its part of the
// parameter `name`. Throws c10::Error when the shard is not of the shape of `where`
// or does not lie inside whole_shape.
void initialize_shard(at::Tensor& shard, const Rectangle& where, at::IntArrayRef whole_shape,
                      const InitSpec& init, uint64_t seed, const std::string& name);

// The whole parameter.
void initialize(at::Tensor& parameter, const InitSpec& init, uint64_t seed,
                const std::string& name);

}  // namespace tessera
