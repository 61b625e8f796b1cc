// CRC-32C (Castagnoli): the checksum of checkpoint files, and of TensorBoard's event records.
//
//   crc32c("123456789", 9) == 0xe3069283
//   crc32c(b, n, crc32c(a, m)) == crc32c of a and b joined
//
// Sizes are in bytes; crc_so_far is the checksum of the bytes before, 0 for none. Nothing throws.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera {

// Uses the processor's instruction where there is one (about 8 bytes in 3 cycles).
uint32_t crc32c(const void* data, size_t size, uint32_t crc_so_far = 0);

// Computes the checksum of crc32c by tables, on any processor; crc32c falls back to it.
uint32_t crc32c_by_tables(const void* data, size_t size, uint32_t crc_so_far = 0);

}  // namespace tessera
