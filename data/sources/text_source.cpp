#include "data/sources/text_source.h"

#include <c10/util/Exception.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string_view>
#include <utility>

#include "data/files/file_io.h"
#include "data/sources/find_files.h"
#include "data/sources/jsonl_source.h"
#include "data/sources/utf8.h"

namespace tessera {
namespace {

const std::vector<std::string_view> kTextSuffixes = {".c", ".cc",  ".cpp", ".cu", ".cuh", ".cxx",
                                                     ".h", ".hpp", ".hxx", ".py", ".md",  ".txt"};
const std::vector<std::string_view> kJsonlSuffixes = {".jsonl", ".json"};

class TextFiles final : public TextSource {
 public:
  explicit TextFiles(std::vector<std::string> files) : files_(std::move(files)) {}

  int64_t num_documents() const override { return static_cast<int64_t>(files_.size()); }
  std::string text(int64_t index) const override { return read_file(location(index)); }

  std::string location(int64_t index) const override {
    TORCH_CHECK(index >= 0 && index < num_documents(), "document: got index ", index,
                ", expected [0, ", num_documents(), ")");
    return files_[static_cast<size_t>(index)];
  }

 private:
  std::vector<std::string> files_;
};

// Stops at the first file with content, in most cases the first of all. A file that cannot be
// looked up counts as one that may have content: its own error comes when it is read.
bool all_empty(const std::vector<std::string>& files) {
  return std::all_of(files.begin(), files.end(), [](const std::string& file) {
    struct stat status {};
    return ::stat(file.c_str(), &status) == 0 && status.st_size == 0;
  });
}

std::unique_ptr<TextSource> open_text_files(std::vector<std::string> files) {
  TORCH_CHECK(!all_empty(files), "training.dataset_path: all ", files.size(),
              " files are empty (the first is ", files.front(), "), expected text");
  return std::make_unique<TextFiles>(std::move(files));
}

std::string hexadecimal(char byte) {
  char text[8];
  std::snprintf(text, sizeof text, "0x%02X", static_cast<unsigned char>(byte));
  return text;
}

}  // namespace

SourceDocument check_utf8(std::string text, InvalidUtf8 policy, const std::string& location) {
  if (policy == InvalidUtf8::kReplace) {
    const int64_t num_replaced = replace_invalid_utf8(text);
    return {std::move(text), num_replaced};
  }
  if (const std::optional<size_t> bad = find_invalid_utf8(text)) {
    TORCH_CHECK(false, location, ": invalid UTF-8 at byte ", *bad, " (", hexadecimal(text[*bad]),
                "), expected well-formed UTF-8 because invalid bytes are to be refused");
  }
  return {std::move(text), 0};
}

SourceDocument TextSource::read(int64_t index, InvalidUtf8 policy) const {
  return check_utf8(text(index), policy, location(index));
}

std::unique_ptr<TextSource> open_text_source(const SourceOptions& options) {
  if (options.dataset == "text_files") {
    return open_text_files(find_files(options.dataset_path, kTextSuffixes));
  }
  TORCH_CHECK(options.dataset == "jsonl", "training.dataset: got '", options.dataset,
              "', expected 'text_files' or 'jsonl'");
  return open_jsonl_files(find_files(options.dataset_path, kJsonlSuffixes));
}

}  // namespace tessera
