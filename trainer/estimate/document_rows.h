// Lengths of the documents in the rows of a batch, as `tessera estimate --documents` reads them, in
// tokens.
//
// A JSON file of one of three forms:
//
//   {"rows": [{"lengths": [700, 1500, ...]}, ...]}     rows; other keys are not looked at
//   [[700, 1500, ...], ...]                            rows
//   [700, 1500, ...]                                   documents, packed into rows as the data
//                                                      loader does: cut by the end of a row
//
// Rows of other lengths than the job's are left out, so that one file can serve several jobs.
//
//   const DocumentRows documents = read_document_rows("lengths.json", config.training.seq_len);
//   const Estimate estimate = estimate_job(config, 512, documents);
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/batch.h"

namespace tessera {

struct DocumentRows {
  std::string source = {};                      // the file; empty: none was read
  std::vector<std::vector<int64_t>> rows = {};  // lengths that sum to seq_len
};

// A single row of one document of seq_len tokens.
DocumentRows one_document_a_row(int64_t seq_len);

// Reads the rows of seq_len tokens from a file, or from its text; `name` stands for the file in
// messages and in DocumentRows::source. Both throw c10::Error naming file and place (line and
// column, or row and item), what was got and what is expected, for a file that cannot be read, text
// that is no JSON or of another form, lengths below 1 or above 2^31 - 1, and when no row has
// seq_len tokens (of packed documents: when they do not fill a window of seq_len + 1 tokens).
DocumentRows read_document_rows(const std::string& path, int64_t seq_len);
DocumentRows parse_document_rows(const std::string& json, const std::string& name, int64_t seq_len);

// A batch with the positions and document ids of these rows, and tokens and labels of zeros. rows:
// document lengths of each row, at least one row. Throws c10::Error when rows differ in their sum.
Batch batch_of_documents(const std::vector<std::vector<int64_t>>& rows);

}  // namespace tessera
