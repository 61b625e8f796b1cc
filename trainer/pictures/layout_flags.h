// The layout flags of `tessera mask`, apart from mask_layout.h so that the command line needs no
// LibTorch header.
#pragma once

#include <optional>
#include <string>

namespace tessera {

// Values as they stand on the command line: integers, or comma-separated lists of them; images as
// start:length,start:length. What they mean: mask_layout.h.
struct LayoutFlags {
  std::optional<std::string> tokens{};
  std::optional<std::string> documents{};
  std::optional<std::string> positions{};
  std::optional<std::string> layout{};  // a JSON file
  std::optional<std::string> images{};
  std::optional<std::string> prefix{};
  std::optional<std::string> window{};
  std::optional<std::string> chunk{};
};

}  // namespace tessera
