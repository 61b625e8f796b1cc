#include "attention/block_mask/block_mask_bytes.h"

#include <c10/util/Exception.h>

#include <bit>
#include <cstring>

#include "attention/block_mask/block_mask_shared.h"

namespace tessera {

namespace {

static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(BlockRun) == 3 * sizeof(int32_t));

// The first bytes of a text, which say whose tokens the mask is over (MaskSequence).
constexpr std::string_view kRowMagic = "TSMASK1\n";
constexpr std::string_view kOwnMagic = "TSOWN01\n";
static_assert(kRowMagic.size() == kOwnMagic.size());

struct Header {
  int64_t batch;
  int64_t heads;
  int64_t q_len;
  int64_t kv_len;
  int64_t block_q;
  int64_t block_kv;
  int64_t num_offsets;
  int64_t num_runs;
  int64_t num_words;
};

template <typename T>
void append(std::string& bytes, const T* values, size_t count) {
  bytes.append(reinterpret_cast<const char*>(values), count * sizeof(T));
}

// Takes values off the front of a text.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes), size_(bytes.size()) {}

  std::string_view take(const char* what, size_t size) {
    TORCH_CHECK(size <= rest_.size(), "block mask bytes: ", what, ": got ", rest_.size(),
                " bytes at byte ", size_ - rest_.size(), ", expected ", size);
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  template <typename T>
  std::vector<T> take_values(const char* what, int64_t count) {
    TORCH_CHECK(count >= 0 && static_cast<uint64_t>(count) <= rest_.size() / sizeof(T),
                "block mask bytes: ", what, ": got a count of ", count, " with ", rest_.size(),
                " bytes left");
    const std::string_view taken = take(what, count * sizeof(T));
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), taken.data(), taken.size());
    return values;
  }

  size_t size() const { return rest_.size(); }

 private:
  std::string_view rest_;
  size_t size_;
};

}  // namespace

std::string to_bytes(const BlockMask& mask) {
  check_no_plan("to_bytes", mask);
  const BlockMaskData& data = mask.data();
  const MaskShape& shape = data.shape;
  const Header header{shape.batch,
                      shape.heads,
                      shape.q_len,
                      shape.kv_len,
                      shape.block.q,
                      shape.block.kv,
                      static_cast<int64_t>(data.row_offsets.size()),
                      static_cast<int64_t>(data.runs.size()),
                      static_cast<int64_t>(data.tile_bits.size())};
  std::string bytes(shape.sequence == MaskSequence::kRow ? kRowMagic : kOwnMagic);
  append(bytes, &header, 1);
  append(bytes, data.row_offsets.data(), data.row_offsets.size());
  append(bytes, data.runs.data(), data.runs.size());
  append(bytes, data.tile_bits.data(), data.tile_bits.size());
  return bytes;
}

BlockMask block_mask_from_bytes(std::string_view bytes) {
  Reader reader(bytes);
  const std::string_view magic = bytes.substr(0, kRowMagic.size());
  TORCH_CHECK(
      magic == kRowMagic || magic == kOwnMagic, "block mask bytes: got ", bytes.size(),
      " bytes that do not begin with \"TSMASK1\" or \"TSOWN01\", expected a serialised block mask");
  reader.take("magic", magic.size());
  Header header{};
  std::memcpy(&header, reader.take("header", sizeof(Header)).data(), sizeof(Header));
  BlockMaskData data;
  data.shape = {.batch = header.batch,
                .heads = header.heads,
                .q_len = header.q_len,
                .kv_len = header.kv_len,
                .block = {.q = header.block_q, .kv = header.block_kv},
                .sequence = magic == kRowMagic ? MaskSequence::kRow : MaskSequence::kOwn};
  data.row_offsets = reader.take_values<int32_t>("row_offsets", header.num_offsets);
  data.runs = reader.take_values<BlockRun>("runs", header.num_runs);
  data.tile_bits = reader.take_values<uint64_t>("tile_bits", header.num_words);
  TORCH_CHECK(reader.size() == 0, "block mask bytes: got ", reader.size(),
              " bytes after the end, expected none");
  return BlockMask(std::move(data));
}

}  // namespace tessera
