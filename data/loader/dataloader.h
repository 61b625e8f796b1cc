// DataLoader turns documents into tokens and tokens into rows of seq_len, packed by concatenating
// and splitting.
//
// The tokens of all documents ([BOS] text [EOS] each, in one global order) form a stream without
// end: after the last document the order starts again. The stream is cut in windows of seq_len + 1
// tokens that do not overlap; a window's first seq_len tokens are a row's input, its last seq_len
// the targets (as TorchTitan cuts). A row starts a new document id and position 0, also in the
// middle of a document. A target in another document than its input is kIgnoreLabel. Row r of step
// s is row s * global_batch + r of the order, under any layout: the rows do not depend on how many
// are asked for at a time. The rule itself, and pack_documents for tokens in memory, stand in
// data/loader/packing.h.
//
//   DataLoader loader(open_text_source({.dataset = "text_files", .dataset_path = "src"}),
//                     std::make_shared<ByteTokenizer>(), {.seq_len = 2048, .shuffle = true});
//   Batch batch = loader.next(8);
//   Batch mine = loader.next({.first = 8 * rank, .count = 8, .stride = 8 * num_ranks});
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/batch.h"
#include "data/loader/packing.h"
#include "data/sources/text_source.h"
#include "data/tokenizers/tokenizer.h"

namespace tessera {

struct DataLoaderOptions {
  int64_t seq_len = 2048;  // tokens of a row
  bool shuffle = false;    // permute the documents anew in each epoch, by (seed, epoch)
  uint64_t seed = 0;
  InvalidUtf8 invalid_utf8 = InvalidUtf8::kReplace;
};

// The place of the stream between two rows: enough to go on bit for bit with the same dataset,
// tokenizer and options. Plain data, saved in checkpoints.
struct DataLoaderState {
  int64_t epoch = 0;
  int64_t document = 0;  // index in the epoch's order of the document being read
  int64_t token = 0;     // its tokens already handed out (BOS and EOS counted)
  bool operator==(const DataLoaderState&) const = default;
};

// Which of the next `stride` rows to keep: [first, first + count). Ranks that split the rows of a
// step differ in `first` only, so all their streams stand at the same place afterwards.
struct RowSlice {
  int64_t first = 0;
  int64_t count = 1;
  int64_t stride = 1;
};

// Not thread-safe. Holds one document's tokens in memory and, when shuffling, 8 bytes per document.
class DataLoader {
 public:
  // Throws c10::Error when seq_len < 1, or the source or tokenizer is missing or empty.
  DataLoader(std::unique_ptr<TextSource> source, std::shared_ptr<const Tokenizer> tokenizer,
             const DataLoaderOptions& options);
  ~DataLoader();

  // The next num_rows rows, on the CPU, without extras. Throws c10::Error when num_rows < 1, when
  // an unreadable or invalid document is met, or when a whole epoch holds no token. After an error
  // the rows begun are lost: the caller goes on from load_state, or stops.
  Batch next(int64_t num_rows);

  // The rows of a slice; the stream goes on behind its `stride` rows. Documents of rows that are
  // not kept are read and tokenised all the same, as only their tokens say where rows end. Throws
  // as above, also when the slice keeps no row or reaches beyond its stride.
  Batch next(const RowSlice& rows);

  // Between two rows `token` is 0, or inside `document`: a finished document is left at once.
  DataLoaderState state() const;

  // Goes on from `state`; reads at most the one document that it points into. Throws c10::Error,
  // and changes nothing, when the state does not fit the source (another dataset or tokenizer).
  void load_state(const DataLoaderState& state);

  // Counts what this loader has read, each document once each time it is read.
  const SourceStats& stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tessera
