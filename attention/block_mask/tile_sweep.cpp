#include "attention/block_mask/tile_sweep.h"

#include <limits>

#include "attention/block_mask/block_mask_shared.h"

namespace tessera {

TileSweep::TileSweep(const MaskShape& shape, std::vector<Band> bands)
    : shape_(shape), bands_(std::move(bands)) {
  const auto earlier = [](const Band& a, const Band& b) {
    return a.queries.begin < b.queries.begin;
  };
  if (!std::is_sorted(bands_.begin(), bands_.end(), earlier)) {
    std::sort(bands_.begin(), bands_.end(), earlier);
  }
}

const std::vector<TileStretch>& TileSweep::row(int64_t q_block) {
  queries_ = block_tokens(q_block, shape_.block.q, shape_.q_len);
  cut_bands();
  spans_.resize(kMaxSpans * row_bands_.size());
  size_t num_spans = 0;
  for (const Band& band : row_bands_) num_spans += cut_band(band, spans_.data() + num_spans);
  spans_.resize(num_spans);
  stretches_.clear();
  if (row_bands_.size() == 1) {
    copy_spans();  // what most rows of long documents are
  } else {
    std::sort(spans_.begin(), spans_.end(),
              [](const Span& a, const Span& b) { return a.begin < b.begin; });
    merge_spans();
  }
  return stretches_;
}

void TileSweep::cut_bands() {
  std::erase_if(active_, [&](const Band* band) { return band->queries.end <= queries_.begin; });
  while (next_band_ < bands_.size() && bands_[next_band_].queries.begin < queries_.end) {
    active_.push_back(&bands_[next_band_++]);
  }
  row_bands_.clear();
  for (const Band* band : active_) {
    append_common(*band, {.queries = queries_, .keys = band->keys}, row_bands_);
  }
}

// Writes at most three spans (partial, full, partial) and returns how many.
int TileSweep::cut_band(const Band& band, Span* spans) const {
  // Unsigned 32-bit divisions are several times faster, and lengths fit.
  const auto size = static_cast<uint32_t>(shape_.block.kv);
  const auto block_of = [&](int64_t key) {
    return static_cast<int32_t>(static_cast<uint32_t>(key) / size);
  };
  const auto block_after = [&](int64_t key) { return block_of(key + size - 1); };
  const int32_t begin = block_of(band.keys.begin);
  const int32_t end = block_after(band.keys.end);

  // Keys that every query of the row of tiles may see; edges only move right from query to query.
  const int64_t common_begin = band.first_key(queries_.end - 1);
  const int64_t common_end = band.end_key(queries_.begin);
  if (band.queries != queries_ || common_begin >= common_end) {
    spans[0] = {begin, end, false, &band};
    return 1;
  }
  const int32_t full_begin = block_after(common_begin);
  const int32_t full_end = common_end == shape_.kv_len ? end : block_of(common_end);
  if (full_begin >= full_end) {
    spans[0] = {begin, end, false, &band};
    return 1;
  }
  int count = 0;
  if (begin < full_begin) spans[count++] = {begin, full_begin, false, &band};
  spans[count++] = {full_begin, full_end, true, &band};
  if (full_end < end) spans[count++] = {full_end, end, false, &band};
  return count;
}

// The spans of a single band do not overlap.
void TileSweep::copy_spans() {
  stretch_bands_.assign(1, &row_bands_.front());
  for (const Span& span : spans_) {
    stretches_.push_back({span.begin, span.end, span.full, stretch_bands_});
  }
}

// Walks the stretches between which no span begins or ends. Where spans overlap, full wins.
void TileSweep::merge_spans() {
  stretch_bands_.clear();
  open_.clear();
  size_t next = 0;
  int32_t at = 0;
  while (next < spans_.size() || !open_.empty()) {
    if (open_.empty()) at = spans_[next].begin;
    while (next < spans_.size() && spans_[next].begin == at) open_.push_back(spans_[next++]);
    int32_t until = next < spans_.size() ? spans_[next].begin : std::numeric_limits<int32_t>::max();
    bool full = false;
    for (const Span& span : open_) {
      until = std::min(until, span.end);
      full = full || span.full;
      stretch_bands_.push_back(span.band);
    }
    stretches_.push_back({at, until, full, {static_cast<const Band**>(nullptr), open_.size()}});
    at = until;
    std::erase_if(open_, [&](const Span& span) { return span.end <= at; });
  }
  // The list has its final address only now.
  const Band* const* bands = stretch_bands_.data();
  for (TileStretch& stretch : stretches_) {
    stretch.bands = {bands, stretch.bands.size()};
    bands += stretch.bands.size();
  }
}

}  // namespace tessera
