// Peak dense bfloat16 rates of cards, for the model FLOPs utilisation (MFU).
//
//   const std::optional<double> peak = peak_bf16_flops("NVIDIA H100 80GB HBM3");   // 989e12
#pragma once

#include <optional>
#include <string_view>

namespace tessera {

// The vendor's dense bfloat16 FLOP/s of the card that the driver calls `device_name`. Nothing for a
// CPU, an unknown card, a model whose variants differ and are not told apart by the name, and a MIG
// slice: a guess would make every MFU derived from it wrong without a sign of it. The figures are
// those of the data sheets, as TorchTitan's table has them.
std::optional<double> peak_bf16_flops(std::string_view device_name);

}  // namespace tessera
