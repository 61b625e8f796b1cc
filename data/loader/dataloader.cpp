#include "data/loader/dataloader.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "data/loader/packing.h"
#include "data/loader/shuffle.h"

namespace tessera {

// A cursor on the endless stream of documents. `tokens_` holds the document under the cursor once
// it is read, which `loaded_` tells.
class DataLoader::Impl {
 public:
  Impl(std::unique_ptr<TextSource> source, std::shared_ptr<const Tokenizer> tokenizer,
       const DataLoaderOptions& options)
      : source_(std::move(source)), tokenizer_(std::move(tokenizer)), options_(options) {
    TORCH_CHECK(options.seq_len >= 1, "seq_len: got ", options.seq_len, ", expected at least 1");
    TORCH_CHECK(source_ != nullptr, "source: got null, expected a TextSource");
    TORCH_CHECK(tokenizer_ != nullptr, "tokenizer: got null, expected a Tokenizer");
    TORCH_CHECK(source_->num_documents() > 0,
                "source: got 0 documents, expected at least 1 to read from");
    order_ = make_order(0);
  }

  Batch next(const RowSlice& rows) {
    TORCH_CHECK(rows.count >= 1, "num_rows: got ", rows.count, ", expected at least 1");
    TORCH_CHECK(rows.first >= 0 && rows.first + rows.count <= rows.stride, "rows: got ", rows.count,
                " from row ", rows.first, " of ", rows.stride, ", expected them to lie inside");
    skip_rows(rows.first);
    BatchPacker packer(rows.count, options_.seq_len);
    while (!packer.full()) {
      take_tokens([&](const int64_t* tokens, int64_t n) { return packer.append(tokens, n); });
    }
    skip_rows(rows.stride - rows.first - rows.count);
    return std::move(packer).finish();
  }

  void load_state(const DataLoaderState& state) {
    check_range("epoch", state.epoch, INT64_MAX);
    check_range("document", state.document, source_->num_documents());
    check_range("token", state.token, INT64_MAX);
    std::vector<int64_t> order = make_order(state.epoch);
    std::vector<int64_t> tokens;
    if (state.token > 0) {
      const int64_t document = document_at(order, state.document);
      tokens = read_tokens(document);
      TORCH_CHECK(state.token < static_cast<int64_t>(tokens.size()),
                  "data loader state: token: got ", state.token, ", but document ", state.document,
                  " (", source_->location(document), ") has ", tokens.size(),
                  " tokens, expected the dataset and tokenizer that the state was saved with");
    }
    state_ = state;
    order_ = std::move(order);
    tokens_ = std::move(tokens);
    loaded_ = state.token > 0;
    epoch_has_tokens_ = state.document > 0 || loaded_;
  }

  const DataLoaderState& state() const { return state_; }
  const SourceStats& stats() const { return stats_; }

 private:
  static void check_range(const char* name, int64_t value, int64_t end) {
    TORCH_CHECK(value >= 0 && value < end, "data loader state: ", name, ": got ", value,
                ", expected [0, ", end,
                ") (was the state saved with another dataset or tokenizer?)");
  }

  // The documents in the order of an epoch; an empty list stands for the source's own order.
  std::vector<int64_t> make_order(int64_t epoch) const {
    if (!options_.shuffle) return {};
    return shuffled_order(source_->num_documents(), options_.seed, epoch);
  }

  static int64_t document_at(const std::vector<int64_t>& order, int64_t place) {
    return order.empty() ? place : order[static_cast<size_t>(place)];
  }

  // Hands the unread tokens of the document under the cursor to `take`, which says how many of them
  // it has used.
  template <typename Take>
  void take_tokens(const Take& take) {
    load_document_with_tokens();
    const int64_t num_left = static_cast<int64_t>(tokens_.size()) - state_.token;
    const int64_t num_taken = take(tokens_.data() + state_.token, num_left);
    state_.token += num_taken;
    if (num_taken == num_left) leave_document();
  }

  void skip_rows(int64_t num_rows) {
    int64_t num_tokens = num_rows * (options_.seq_len + 1);
    while (num_tokens > 0) {
      take_tokens([&](const int64_t*, int64_t n) {
        const int64_t num_skipped = std::min(n, num_tokens);
        num_tokens -= num_skipped;
        return num_skipped;
      });
    }
  }

  // [BOS] text [EOS]; nothing for a document without text.
  std::vector<int64_t> read_tokens(int64_t document) {
    const SourceDocument read = source_->read(document, options_.invalid_utf8);
    if (read.num_replaced > 0) ++stats_.num_invalid_utf8_documents;
    std::vector<int64_t> tokens;
    tokens.reserve(read.text.size() + 2);
    if (const auto bos = tokenizer_->bos_id()) tokens.push_back(*bos);
    const size_t num_before = tokens.size();
    tokenizer_->encode(read.text, tokens);
    if (tokens.size() == num_before) {
      ++stats_.num_empty_documents;
      return {};
    }
    if (const auto eos = tokenizer_->eos_id()) tokens.push_back(*eos);
    return tokens;
  }

  void load_document_with_tokens() {
    while (!loaded_) {
      tokens_ = read_tokens(document_at(order_, state_.document));
      loaded_ = !tokens_.empty();
      epoch_has_tokens_ |= loaded_;
      if (!loaded_) leave_document();
    }
  }

  void leave_document() {
    const bool last = state_.document + 1 == source_->num_documents();
    TORCH_CHECK(!last || epoch_has_tokens_, "training.dataset_path: all ", source_->num_documents(),
                " documents are empty (the first is ", source_->location(0), "), expected text");
    loaded_ = false;
    state_.token = 0;
    ++state_.document;
    if (last) begin_epoch(state_.epoch + 1);
  }

  void begin_epoch(int64_t epoch) {
    state_ = {.epoch = epoch, .document = 0, .token = 0};
    order_ = make_order(epoch);
    epoch_has_tokens_ = false;
  }

  std::unique_ptr<TextSource> source_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  DataLoaderOptions options_;
  SourceStats stats_;
  DataLoaderState state_;
  std::vector<int64_t> order_;
  std::vector<int64_t> tokens_;
  bool loaded_ = false;
  bool epoch_has_tokens_ =
      false;  // in the part of this epoch that was read here, or skipped by load_state
};

DataLoader::DataLoader(std::unique_ptr<TextSource> source,
                       std::shared_ptr<const Tokenizer> tokenizer, const DataLoaderOptions& options)
    : impl_(std::make_unique<Impl>(std::move(source), std::move(tokenizer), options)) {}

DataLoader::~DataLoader() = default;

Batch DataLoader::next(int64_t num_rows) {
  return impl_->next({.first = 0, .count = num_rows, .stride = num_rows});
}

Batch DataLoader::next(const RowSlice& rows) { return impl_->next(rows); }

DataLoaderState DataLoader::state() const { return impl_->state(); }

void DataLoader::load_state(const DataLoaderState& state) { impl_->load_state(state); }

const SourceStats& DataLoader::stats() const { return impl_->stats(); }

}  // namespace tessera
