#include "data/files/crc32c.h"

#include <array>
#include <cstring>

namespace tessera {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // 0x1edc6f41 with its bits reversed
constexpr int kSlices = 8;

using Tables = std::array<std::array<uint32_t, 256>, kSlices>;

// tables[0] advances the checksum by one byte, tables[i] by that byte and i zero bytes after it.
constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (int slice = 1; slice < kSlices; ++slice) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[slice - 1][byte];
      tables[slice][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

uint64_t load_word(const unsigned char* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t crc32c_by_instruction(const unsigned char* bytes,
                                                                 size_t size, uint32_t crc) {
  uint64_t wide = ~crc;
  for (; size >= sizeof(uint64_t); bytes += sizeof(uint64_t), size -= sizeof(uint64_t)) {
    wide = __builtin_ia32_crc32di(wide, load_word(bytes));
  }
  auto narrow = static_cast<uint32_t>(wide);
  for (; size > 0; ++bytes, --size) narrow = __builtin_ia32_crc32qi(narrow, *bytes);
  return ~narrow;
}
#endif

}  // namespace

uint32_t crc32c_by_tables(const void* data, size_t size, uint32_t crc_so_far) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  uint32_t crc = ~crc_so_far;
  for (; size >= kSlices; bytes += kSlices, size -= kSlices) {
    const uint64_t word = load_word(bytes) ^ crc;
    crc = 0;
    for (int i = 0; i < kSlices; ++i) crc ^= kTables[kSlices - 1 - i][(word >> (8 * i)) & 0xff];
  }
  for (; size > 0; ++bytes, --size) crc = (crc >> 8) ^ kTables[0][(crc ^ *bytes) & 0xff];
  return ~crc;
}

uint32_t crc32c(const void* data, size_t size, uint32_t crc_so_far) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) {
    return crc32c_by_instruction(static_cast<const unsigned char*>(data), size, crc_so_far);
  }
#endif
  return crc32c_by_tables(data, size, crc_so_far);
}

}  // namespace tessera
