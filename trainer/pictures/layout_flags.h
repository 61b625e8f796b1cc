// The layout flags of `tessera mask`, apart from mask_layout.h so that the command line needs no
// LibTorch header.
//
//   const MaskLayout layout = read_layout({.documents = "700,1500", .images = "16:64"});
#pragma once

#include <optional>
#include <string>

namespace tessera {

// The values as they stand on the command line: integers, or comma-separated lists of them; images
// are start:length,start:length. mask_layout.h says what each means.
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
