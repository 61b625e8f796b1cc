// Flex attention in a rank that dies by itself: so a test knows when, on however busy a machine.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "attention/backends/flex/flex_attention.h"
#include "models/extension.h"

namespace {

bool is(const char* variable, std::string_view value) {
  const char* text = std::getenv(variable);
  return text != nullptr && text == value;
}

// Rank 1 before its first restart, once there is what TESSERA_TEST_DIE_AFTER names.
tessera::AttentionOutput dying(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                               const at::Tensor& v_BSKE, const tessera::BlockMask& mask,
                               const tessera::AttentionOptions& options) {
  const char* file = std::getenv("TESSERA_TEST_DIE_AFTER");
  if (file != nullptr && is("RANK", "1") && is("TORCHELASTIC_RESTART_COUNT", "0") &&
      std::filesystem::exists(file)) {
    std::raise(SIGKILL);
  }
  return tessera::flex_attention(q_BTHD, k_BSKD, v_BSKE, mask, options);
}

}  // namespace

TESSERA_EXTENSION(registries) {
  registries.attention.add(
      {.name = "dying", .description = "flex, for a while", .function = dying});
}
