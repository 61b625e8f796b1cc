#include "attention/masks/mask_bands.h"

namespace tessera {

namespace {

constexpr TokenRange kAll{-Band::kUnbounded, Band::kUnbounded};

// Row q has a key when keys.begin < q + diag_end and q + diag_begin < keys.end: an interval of q.
Band tighten(Band band) {
  TokenRange& queries = band.queries;
  TokenRange& keys = band.keys;
  queries.begin = std::max(queries.begin, keys.begin - band.diag_end + 1);
  queries.end = std::min(queries.end, keys.end - band.diag_begin);
  if (queries.empty() || keys.empty() || band.diag_begin >= band.diag_end) return {};
  keys.begin = band.first_key(queries.begin);
  keys.end = band.end_key(queries.end - 1);
  return band;
}

bool disjoint(const Band& a, const Band& b) {
  return disjoint(a.queries, b.queries) || disjoint(a.keys, b.keys);
}

// `from` without one band. An edge of the band is a constant on one side of a crossing row and a
// diagonal on the other; cutting there keeps the pieces disjoint.
void subtract_one(const Band& from, const Band& band, std::vector<Band>& out) {
  const TokenRange rows = band.queries;
  const auto clamp_row = [&](int64_t q) { return std::clamp(q, rows.begin, rows.end); };
  const int64_t left_crossing = clamp_row(band.keys.begin - band.diag_begin);
  const int64_t right_crossing = clamp_row(band.keys.end - band.diag_end);

  append_common(from, {.queries = {kAll.begin, rows.begin}, .keys = kAll}, out);
  append_common(
      from, {.queries = {rows.begin, left_crossing}, .keys = {kAll.begin, band.keys.begin}}, out);
  append_common(
      from, {.queries = {left_crossing, rows.end}, .keys = kAll, .diag_end = band.diag_begin}, out);
  append_common(
      from, {.queries = {rows.begin, right_crossing}, .keys = kAll, .diag_begin = band.diag_end},
      out);
  append_common(from, {.queries = {right_crossing, rows.end}, .keys = {band.keys.end, kAll.end}},
                out);
  append_common(from, {.queries = {rows.end, kAll.end}, .keys = kAll}, out);
}

}  // namespace

Band intersect(const Band& a, const Band& b) {
  return tighten({
      .queries = intersect(a.queries, b.queries),
      .keys = intersect(a.keys, b.keys),
      .diag_begin = std::max(a.diag_begin, b.diag_begin),
      .diag_end = std::min(a.diag_end, b.diag_end),
  });
}

void subtract(const Band& from, std::vector<Band> bands, std::vector<Band>& out) {
  std::sort(bands.begin(), bands.end(), [](const Band& a, const Band& b) {
    return std::pair(a.queries.begin, a.keys.begin) < std::pair(b.queries.begin, b.keys.begin);
  });
  std::vector<Band> pieces{from};
  std::vector<Band> next;
  for (const Band& band : bands) {
    next.clear();
    for (const Band& piece : pieces) {
      // Bands come in order of their first row, so a piece above this one is above all that follow.
      if (piece.queries.end <= band.queries.begin) {
        out.push_back(piece);
      } else if (disjoint(piece, band)) {
        next.push_back(piece);
      } else {
        subtract_one(piece, band, next);
      }
    }
    pieces.swap(next);
  }
  out.insert(out.end(), pieces.begin(), pieces.end());
}

RangeSet merge_ranges(RangeSet ranges) {
  std::erase_if(ranges, [](const TokenRange& range) { return range.empty(); });
  std::sort(ranges.begin(), ranges.end(),
            [](const TokenRange& a, const TokenRange& b) { return a.begin < b.begin; });
  RangeSet merged;
  for (const TokenRange& range : ranges) {
    if (!merged.empty() && range.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, range.end);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

}  // namespace tessera
