// The oracles' mask expressions as rules. An expression is a JSON tree over absolute indices b, h,
// q, k:
//
//   {"op": "and", "args": [{"op": "causal"}, {"op": "window", "window": 4}]}
//
// Operations that ask for the head, or for the query alone, have no leaf and become a mask_fn; all
// others lower to intervals. An unknown operation throws c10::Error. Internal to tests/attention/.
//
// Shape legend: B batch rows, T tokens of a row.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attention/masks/mask_fn.h"
#include "attention/masks/mask_mod.h"

namespace tessera::testing {

// Rows of numbers as an int64 tensor [B, T]. Throws c10::Error unless all rows have one length.
inline at::Tensor rows_tensor(const nlohmann::json& rows) {
  const auto values = rows.get<std::vector<std::vector<int64_t>>>();
  const auto width = static_cast<int64_t>(values.front().size());
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size()), width}, at::kLong);
  int64_t* out = tensor.mutable_data_ptr<int64_t>();
  for (const std::vector<int64_t>& row : values) {
    TORCH_CHECK(static_cast<int64_t>(row.size()) == width, "rows of unequal length: ", rows.dump());
    out = std::copy(row.begin(), row.end(), out);
  }
  return tensor;
}

// Document ids 0, 1, ... of each row from the rows' document lengths.
inline at::Tensor document_ids_of_lengths(const nlohmann::json& document_lengths) {
  nlohmann::json ids = nlohmann::json::array();
  for (const nlohmann::json& lengths : document_lengths) {
    std::vector<int64_t> row;
    int64_t id = 0;
    for (const nlohmann::json& length : lengths) {
      row.insert(row.end(), length.get<int64_t>(), id++);
    }
    ids.push_back(row);
  }
  return rows_tensor(ids);
}

// A bool tensor [B, num_tokens] that is true before each row's length.
inline at::Tensor valid_before(const std::vector<int64_t>& lengths, int64_t num_tokens) {
  at::Tensor valid_BT = at::zeros({static_cast<int64_t>(lengths.size()), num_tokens}, at::kBool);
  bool* valid = valid_BT.mutable_data_ptr<bool>();
  for (size_t b = 0; b < lengths.size(); ++b) {
    std::fill_n(valid + b * num_tokens, std::min(lengths[b], num_tokens), true);
  }
  return valid_BT;
}

// The rule q - k < size, also for sizes below 1.
inline MaskMod closer_than(int64_t size) {
  return size > 0 ? sliding_window({.left = size - 1})
                  : offset(sliding_window({.left = 0}), size - 1, 0);
}

// The rule of an operation on one index, or of one that no leaf can say.
inline MaskMod oracle_index_rule(const nlohmann::json& expression, int64_t num_tokens) {
  const std::string op = expression["op"];
  const auto number = [&](const char* key) { return expression.at(key).get<int64_t>(); };
  if (op == "k_lt") return first_tokens(number("k"));
  if (op == "k_eq") return first_tokens(number("k") + 1) & ~first_tokens(number("k"));
  if (op == "k_ne") return ~first_tokens(number("k") + 1) | first_tokens(number("k"));
  if (op == "prefix" || op == "k_valid") {
    return key_padding(valid_before(expression["len"], num_tokens));
  }
  if (op == "q_valid") {
    const std::vector<int64_t> lengths = expression["len"];
    return mask_fn("q_valid", {}, [lengths](int64_t b, int64_t, int64_t q, int64_t) {
      return q < lengths[lengths.size() == 1 ? 0 : b];
    });
  }
  if (op == "batch_eq") {
    const int64_t batch = number("batch");
    return mask_fn(op, {{"batch", batch}},
                   [batch](int64_t b, int64_t, int64_t, int64_t) { return b == batch; });
  }
  if (op == "head_lt") {
    const int64_t head = number("head");
    return mask_fn(op, {{"head", head}},
                   [head](int64_t, int64_t h, int64_t, int64_t) { return h < head; });
  }
  if (op == "head_window") {
    const int64_t base = number("base");
    return mask_fn(op, {{"base", base}},
                   [base](int64_t, int64_t h, int64_t q, int64_t k) { return q - k < base << h; });
  }
  if (op == "dilated") {
    const int64_t step = number("step");
    return mask_fn(op, {{"step", step}},
                   [step](int64_t, int64_t, int64_t q, int64_t k) { return (q - k) % step == 0; });
  }
  C10_THROW_ERROR(Error, "oracle mask expression: unknown operation " + op);
}

// The rule of an expression. num_tokens is one more than the largest absolute index that the rule
// is asked for.
inline MaskMod oracle_rule(const nlohmann::json& expression, int64_t num_tokens) {
  const std::string op = expression["op"];
  const auto number = [&](const char* key) { return expression.at(key).get<int64_t>(); };
  if (op == "and" || op == "or") {
    std::vector<MaskMod> rules;
    for (const nlohmann::json& arg : expression["args"]) {
      rules.push_back(oracle_rule(arg, num_tokens));
    }
    return op == "and" ? and_masks(rules) : or_masks(rules);
  }
  if (op == "not") return ~oracle_rule(expression["arg"], num_tokens);
  if (op == "full") return full();
  if (op == "none") return none();
  const int64_t q_offset = expression.value("q_offset", int64_t{0});
  const auto shifted = [&](const MaskMod& rule) {
    return q_offset == 0 ? rule : offset(rule, q_offset, 0);
  };
  if (op == "causal") return shifted(causal());
  if (op == "window") return shifted(closer_than(number("window")));
  if (op == "abs_lt" && number("window") == 0) return none();
  if (op == "abs_lt" || op == "abs_le") {
    const int64_t side = number("window") - (op == "abs_lt" ? 1 : 0);
    return sliding_window({.left = side, .right = side});
  }
  if (op == "chunk") return chunked(number("size"));
  if (op == "document") return document(document_ids_of_lengths(expression["doc_lens"]));
  if (op == "same_block") return block_ids(rows_tensor(expression["ids"]));
  return oracle_index_rule(expression, num_tokens);
}

}  // namespace tessera::testing
