// A mask layout as it was written, before anything but its types is checked. Internal to
// mask_layout*.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tessera {

// A value and what messages call it: "--documents", or "batch.json: rows[1].documents".
template <typename T>
struct Given {
  T value;
  std::string where;
};

using GivenInteger = std::optional<Given<int64_t>>;
using GivenList = std::optional<Given<std::vector<int64_t>>>;

struct ImageInput {
  int64_t start = 0;
  int64_t length = 0;
};

struct LayoutRowInput {
  GivenList documents{};
  GivenList positions{};
  std::optional<Given<std::vector<ImageInput>>> images{};
  GivenInteger prefix{};
};

struct LayoutInput {
  std::string name{};  // of the file
  GivenInteger tokens{};
  std::vector<LayoutRowInput> rows{};
  GivenList window{};  // left, or left and right
  GivenInteger chunk{};
};

// Throws c10::Error that names `name` (the file's) and the key, or line and column where the text
// is no JSON.
LayoutInput parse_layout_json(const std::string& json, const std::string& name);

}  // namespace tessera
