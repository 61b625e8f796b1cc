#include "trainer/estimate/document_rows.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>
#include <utility>

#include "trainer/support/parse_json.h"

namespace tessera {
namespace {

using nlohmann::json;
using Lengths = std::vector<int64_t>;

int64_t length_of(const json& value, const std::string& where) {
  constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int32_t>::max());
  const bool is_length = value.is_number_integer() && value >= 1 && value.get<uint64_t>() <= kMost;
  TORCH_CHECK(is_length, where, ": got ", shown(value),
              ", expected the length of a document, an integer from 1 to ", kMost);
  return value.get<int64_t>();
}

Lengths lengths_of(const json& value, const std::string& where) {
  TORCH_CHECK(value.is_array() && !value.empty(), where, ": got ",
              value.is_array() ? "an empty list" : shown(value),
              ", expected a list of document lengths");
  Lengths lengths;
  for (const json& item : value) {
    lengths.push_back(length_of(item, where + "[" + std::to_string(lengths.size()) + "]"));
  }
  return lengths;
}

Lengths row_of(const json& value, const std::string& where) {
  if (!value.is_object()) return lengths_of(value, where);
  TORCH_CHECK(value.contains("lengths"), where,
              ": got an object without \"lengths\", expected a list of document lengths in it");
  return lengths_of(value["lengths"], where + ".lengths");
}

std::vector<Lengths> rows_of_length(const json& rows, const std::string& where, int64_t seq_len) {
  TORCH_CHECK(rows.is_array() && !rows.empty(), where, ": got ",
              rows.is_array() ? "an empty list" : shown(rows), ", expected a list of rows");
  std::vector<Lengths> fitting;
  std::set<int64_t> totals;
  for (size_t i = 0; i < rows.size(); ++i) {
    Lengths lengths = row_of(rows[i], where + "[" + std::to_string(i) + "]");
    const int64_t total = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
    totals.insert(total);
    if (total == seq_len) fitting.push_back(std::move(lengths));
  }
  std::ostringstream got;
  for (const int64_t total : totals) got << (got.tellp() > 0 ? ", " : "") << total;
  TORCH_CHECK(!fitting.empty(), where, ": got rows of ", got.str(),
              " tokens, expected at least one of training.seq_len = ", seq_len);
  return fitting;
}

// Packs as data/loader/packing.h does: windows have seq_len + 1 tokens, of which the first seq_len
// are a row.
std::vector<Lengths> packed(const Lengths& documents, const std::string& where, int64_t seq_len) {
  std::vector<Lengths> rows;
  Lengths row;
  int64_t filled = 0;  // of the window
  for (int64_t left : documents) {
    while (left > 0) {
      const int64_t piece = std::min(left, seq_len + 1 - filled);
      const int64_t seen = std::min(piece, seq_len - filled);
      if (seen > 0) row.push_back(seen);
      left -= piece;
      filled += piece;
      if (filled <= seq_len) continue;
      rows.push_back(std::exchange(row, {}));
      filled = 0;
    }
  }
  TORCH_CHECK(!rows.empty(), where, ": got documents of ",
              std::accumulate(documents.begin(), documents.end(), int64_t{0}),
              " tokens in all, expected at least training.seq_len + 1 = ", seq_len + 1);
  return rows;
}

}  // namespace

DocumentRows one_document_a_row(int64_t seq_len) { return {.rows = {{seq_len}}}; }

DocumentRows parse_document_rows(const std::string& text, const std::string& name,
                                 int64_t seq_len) {
  const json value = parse_json(text, name);
  DocumentRows result{.source = name};
  if (value.is_object()) {
    TORCH_CHECK(value.contains("rows"), name,
                ": got an object without \"rows\", expected a list of rows in it");
    result.rows = rows_of_length(value["rows"], name + ": rows", seq_len);
  } else if (value.is_array() && !value.empty() && value[0].is_number()) {
    result.rows = packed(lengths_of(value, name + ": "), name, seq_len);
  } else {
    result.rows =
        rows_of_length(value, name + (value.is_array() && !value.empty() ? ": " : ""), seq_len);
  }
  return result;
}

DocumentRows read_document_rows(const std::string& path, int64_t seq_len) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  TORCH_CHECK(file.good() && text.good(), path,
              ": cannot be read, expected a JSON file of document lengths");
  return parse_document_rows(text.str(), path, seq_len);
}

Batch batch_of_documents(const std::vector<Lengths>& rows) {
  const int64_t seq_len = std::accumulate(rows.at(0).begin(), rows.at(0).end(), int64_t{0});
  const auto num_rows = static_cast<int64_t>(rows.size());
  Batch batch{.tokens_BT = at::zeros({num_rows, seq_len}, at::kLong),
              .labels_BT = at::zeros({num_rows, seq_len}, at::kLong),
              .positions_BT = at::empty({num_rows, seq_len}, at::kLong),
              .document_ids_BT = at::empty({num_rows, seq_len}, at::kLong)};
  for (int64_t row = 0; row < num_rows; ++row) {
    int64_t begin = 0, id = 0;
    for (const int64_t length : rows[static_cast<size_t>(row)]) {
      batch.positions_BT.select(0, row)
          .narrow(0, begin, length)
          .copy_(at::arange(length, at::kLong));
      batch.document_ids_BT.select(0, row).narrow(0, begin, length).fill_(id++);
      begin += length;
    }
    TORCH_CHECK(begin == seq_len, "batch_of_documents: row ", row, ": got ", begin,
                " tokens, expected the ", seq_len, " of the first row");
  }
  return batch;
}

}  // namespace tessera
