// TextSource: where documents come from, as an indexed list of texts that are read from disk when
// asked for.
//
//   std::unique_ptr<TextSource> source =
//       open_text_source({.dataset = "jsonl", .dataset_path = "corpus"});
//   const SourceDocument first = source->read(0, InvalidUtf8::kReplace);
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tessera {

// The treatment of ill-formed UTF-8 (utf8.h): U+FFFD for each maximal ill-formed sequence, or an
// error with file and byte offset.
enum class InvalidUtf8 { kReplace, kRefuse };

struct SourceStats {
  int64_t num_invalid_utf8_documents = 0;  // documents read in which bytes were replaced
  int64_t num_empty_documents = 0;         // documents read that held no text; they are skipped
};

// A document as it goes to the tokenizer: well-formed UTF-8.
struct SourceDocument {
  std::string text;
  int64_t num_replaced = 0;  // ill-formed sequences that became U+FFFD
};

// An indexed list of texts. Constant methods may be called from several threads at once.
class TextSource {
 public:
  virtual ~TextSource() = default;

  virtual int64_t num_documents() const = 0;

  // Bytes of document `index`, as stored: not necessarily well-formed UTF-8. Throws c10::Error
  // naming the file (and line) that cannot be read.
  virtual std::string text(int64_t index) const = 0;

  // The place of document `index`, for messages: a path, or path:line.
  virtual std::string location(int64_t index) const = 0;

  // text(index) with ill-formed UTF-8 repaired, or refused with a c10::Error that names location
  // and byte offset. A source whose files cannot be parsed before they are repaired (JSONL)
  // overrides it.
  virtual SourceDocument read(int64_t index, InvalidUtf8 policy) const;
};

struct SourceOptions {
  std::string dataset;  // "text_files" or "jsonl"
  // A folder (searched recursively), a file, a glob, or a comma-separated list of these.
  std::string dataset_path;
};

// Finds the files at once and reads them later; data/sources/find_files.h tells the rules of
// dataset_path. Documents stand in byte order of the paths, each path once.
//   text_files  each file is one document. In a folder: .c .cc .cpp .cu .cuh .cxx .h .hpp .hxx
//               .py .md .txt; in a glob or list whatever is named
//   jsonl       each line is one JSON object and one document, its field `text`; a blank line is
//               an empty document. In a folder: .jsonl .json. The files are read through once, to
//               find their lines
//
// Throws c10::Error naming training.dataset or training.dataset_path when the kind is unknown,
// nothing is found, a named file is unreadable, or every file is empty. A file of a folder or glob
// that is unreadable is met when it is read.
std::unique_ptr<TextSource> open_text_source(const SourceOptions& options);

// Repairs `text`, or throws c10::Error with `location` and byte offset, as `policy` says.
SourceDocument check_utf8(std::string text, InvalidUtf8 policy, const std::string& location);

}  // namespace tessera
