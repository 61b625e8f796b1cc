#include "trainer/environment.h"

#include <charconv>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tessera {
namespace {

int64_t read_count(const char* name, int64_t fallback, int64_t low, int64_t high) {
  const char* text = std::getenv(name);
  if (text == nullptr) return fallback;
  const std::string_view view(text);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc{} || end != view.data() + view.size() || value < low || value > high) {
    throw std::invalid_argument("environment variable " + std::string(name) + " is \"" +
                                std::string(view) + "\"; expected a whole number from " +
                                std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

}  // namespace

Environment read_environment() {
  constexpr int64_t kMostRanks = int64_t{1} << 20;
  Environment environment;
  environment.world_size = read_count("WORLD_SIZE", 1, 1, kMostRanks);
  environment.rank = read_count("RANK", 0, 0, environment.world_size - 1);
  environment.local_rank = read_count("LOCAL_RANK", 0, 0, environment.world_size - 1);
  return environment;
}

bool wants_no_color() {
  const char* value = std::getenv("NO_COLOR");
  return value != nullptr && *value != '\0';
}

}  // namespace tessera
