#include "trainer/metrics/peak_flops.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <vector>

namespace tessera {
namespace {

// The words of a name: "NVIDIA A100-SXM4-80GB" gives {"nvidia", "a100", "sxm4", "80gb"}. Cards are
// told by whole words, so that GH200 is not taken for H200.
std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> words(1);
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte)) {
      words.back() += static_cast<char>(std::tolower(byte));
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  return words;
}

struct Card {
  std::string_view model;    // a word of the name
  std::string_view variant;  // another word of the name; "" where all variants have one rate
  double flops;
};

// The first card that fits wins. The figures are the data sheets' dense ones, as TorchTitan's table
// has them; that of H200 NVL is from NVIDIA's H200 data sheet. An H100 must say which one it is:
// the SXM card's name ends in its memory, "NVIDIA H100 80GB HBM3".
constexpr std::array<Card, 17> kCards = {{
    {"a100", "", 312e12},
    {"h100", "nvl", 835e12},
    {"h100", "pcie", 756e12},
    {"h100", "sxm", 989e12},
    {"h100", "sxm5", 989e12},
    {"h100", "hbm3", 989e12},
    {"h200", "nvl", 835e12},
    {"h200", "", 989e12},
    {"h20", "", 148e12},
    {"b200", "", 2250e12},
    {"gb200", "", 2500e12},
    {"gb300", "", 2500e12},
    {"mi300x", "", 1300e12},
    {"mi325x", "", 1300e12},
    {"mi355x", "", 2500e12},
    {"l40s", "", 362e12},
    {"a6000", "", 154.85e12},
}};

}  // namespace

std::optional<double> peak_bf16_flops(std::string_view device_name) {
  const std::vector<std::string> words = words_of(device_name);
  const auto has = [&](std::string_view word) { return std::ranges::count(words, word) > 0; };
  if (has("mig")) return std::nullopt;
  for (const Card& card : kCards) {
    if (has(card.model) && (card.variant.empty() || has(card.variant))) return card.flops;
  }
  return std::nullopt;
}

}  // namespace tessera
