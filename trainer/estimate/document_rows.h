// Lengths of the documents in the rows of a batch, as `tessera estimate --documents` reads them.
//
// A JSON file of one of three forms:
//
//   {"rows": [{"lengths": [700, 1500, ...]}, ...]}     rows; other keys are not looked at
//   [[700, 1500, ...], ...]                            rows
//   [700, 1500, ...]                                   documents, packed into rows as the data
//                                                      loader does: cut by the end of a row
//
// Rows of other lengths than the job's are left out, so that one file can serve several jobs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/batch.h"

namespace tessera {

struct DocumentRows {
  std::string source = {};                      // the file; empty: one document a row
  std::vector<std::vector<int64_t>> rows = {};  // lengths that sum to seq_len
};

DocumentRows one_document_a_row(int64_t seq_len);

// Throws c10::Error naming file and place (line and column, or row and item), what was got and what
// is expected: for a file that cannot be read, text that is no JSON, another form, lengths below 1,
// and when no row has seq_len tokens.
DocumentRows read_document_rows(const std::string& path, int64_t seq_len);
DocumentRows parse_document_rows(const std::string& json, const std::string& name, int64_t seq_len);

// A batch of these rows (lengths as above, one row at least) with tokens and labels of zeros.
Batch batch_of_documents(const std::vector<std::vector<int64_t>>& rows);

}  // namespace tessera
