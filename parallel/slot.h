// Parameter slots: the addresses of a module's own tensor members, with their names and
// initialisation.
//
// A module declares its parameters as members on the meta device and lists their addresses. There
// is one handle per parameter, and whoever owns storage (materialising, mixed precision, FSDP, TP,
// checkpoint loading) re-points it. Modules that own slots are therefore neither copied nor moved.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/files/rectangle.h"

namespace tessera {

// How a parameter starts. Every element is a function of (seed, parameter name, its index in the
// whole parameter), so any layout of shards starts from the same bits. See models/init/init.h.
struct InitSpec {
  enum class Kind { kConstant, kNormal, kTruncatedNormal };
  Kind kind = Kind::kConstant;
  double value = 0.0;  // kConstant: the value
  double mean = 0.0;
  double std = 1.0;
  double low = 0.0;  // kTruncatedNormal: absolute bounds
  double high = 0.0;

  static InitSpec constant(double value);
  static InitSpec normal(double std);
  static InitSpec truncated_normal(double std, double low, double high);
};

// What a cut has left of a parameter: a rectangle of the whole.
struct ParameterCut {
  Rectangle rectangle;
  std::vector<int64_t> whole_shape;
};

struct ParameterSlot {
  std::string name;  // e.g. "layers.0.attention.wq.weight", unique in a model
  at::Tensor* tensor = nullptr;
  InitSpec init;

  // Set where tensor parallelism has cut the parameter; nothing: the tensor is the whole.
  std::optional<ParameterCut> cut = {};

  Rectangle where() const;  // the tensor's place in the whole parameter
  std::vector<int64_t> whole_shape() const;
};

}  // namespace tessera
