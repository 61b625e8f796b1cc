// Counter-based initialisation: element i of a parameter is a function of (seed, parameter name, i)
// alone, i being its row-major index in the whole parameter.
//
// Element i takes lane i % 4 of Philox4x32-10 with counter i / 4 and key hash(seed, name)
// (models/init/philox.h), so the bits are the same for the whole parameter, for any shard of it,
// for any number of threads and on every x86-64 machine.
//
//   for (NamedShard& part : parameters.named(parameters.masters())) {
//     initialize_shard(part.tensor, part.where, part.init, seed, part.name);
//   }
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/slot.h"

namespace tessera {

// Fills `shard` (any floating dtype, device and strides; values are made in float32 on the CPU and
// cast) with its part of the parameter `name`; where.offset is the place of the shard's first
// element in it. Throws c10::Error naming the parameter when the shard has no storage, is not of a
// floating-point dtype, is not of the shape of `where`, or does not lie inside whole_shape.
void initialize_shard(at::Tensor& shard, const Rectangle& where, at::IntArrayRef whole_shape,
                      const InitSpec& init, uint64_t seed, const std::string& name);

// Fills a whole parameter, with the same requirements and errors as initialize_shard.
void initialize(at::Tensor& parameter, const InitSpec& init, uint64_t seed,
                const std::string& name);

}  // namespace tessera
