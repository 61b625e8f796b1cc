// A mask layout as it was written, before anything but its types is checked: what flags and JSON
// have in common. Internal to trainer/pictures/.
//
//   const LayoutInput input = parse_layout_json(text, "batch.json");
//   if (input.tokens) check(input.tokens->value, input.tokens->where);
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tessera {

// A value and what messages call it: "--documents", or "batch.json: rows[1]: documents".
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
  std::string name{};  // of the file; empty for flags
  GivenInteger tokens{};
  std::vector<LayoutRowInput> rows{};
  GivenList window{};  // left, or left and right
  GivenInteger chunk{};
};

// Reads the JSON form of mask_layout.h; `name` stands for the file in messages. Throws c10::Error
// that names it and the key, for a key that is unknown or of another type, or the line and column
// where the text is no JSON.
LayoutInput parse_layout_json(const std::string& json, const std::string& name);

}  // namespace tessera
