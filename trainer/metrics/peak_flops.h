// Peak dense bfloat16 rates, for the model FLOPs utilisation (MFU).
#pragma once

#include <optional>
#include <string_view>

namespace tessera {

// The vendor's dense bfloat16 FLOP/s of the card that the driver calls `device_name` ("NVIDIA H100
// 80GB HBM3"), or nothing for a CPU, an unknown card, a model whose variants differ and are not
// told apart by the name, and a MIG slice. A guess would make every MFU derived from it wrong
// without a sign of it.
std::optional<double> peak_bf16_flops(std::string_view device_name);

}  // namespace tessera
