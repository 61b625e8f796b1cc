#include "data/sources/jsonl_source.h"

#include <c10/util/Exception.h>
#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "data/files/file_io.h"

namespace tessera {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

struct LineFile {
  std::string path;
  std::vector<int64_t>
      line_ends;  // offset past each line's newline; line i begins where line i - 1 ends
  int64_t first_document = 0;
};

// A last line without a newline is a line; the empty rest after a last newline is none.
std::vector<int64_t> find_line_ends(const std::string& path, std::string& buffer) {
  InputFile file(path);
  std::vector<int64_t> ends;
  int64_t offset = 0;
  while (const int64_t size = file.read(buffer.data(), static_cast<int64_t>(buffer.size()))) {
    const char* const begin = buffer.data();
    const char* at = begin;
    while ((at = static_cast<const char*>(std::memchr(at, '\n', begin + size - at))) != nullptr) {
      ends.push_back(offset + (++at - begin));
    }
    offset += size;
  }
  if (offset > (ends.empty() ? 0 : ends.back())) ends.push_back(offset);
  return ends;
}

const char* kind_of(simdjson::dom::element value) {
  switch (value.type()) {
    case simdjson::dom::element_type::ARRAY:
      return "an array";
    case simdjson::dom::element_type::OBJECT:
      return "an object";
    case simdjson::dom::element_type::STRING:
      return "a string";
    case simdjson::dom::element_type::BOOL:
      return "a boolean";
    case simdjson::dom::element_type::NULL_VALUE:
      return "null";
    default:
      return "a number";
  }
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

// The field `text` of `line`, which is well-formed UTF-8.
std::string parse_text(std::string line, const std::string& location) {
  const size_t size = line.size();
  line.resize(size + simdjson::SIMDJSON_PADDING);  // simdjson reads past the end
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  const auto error = parser.parse(line.data(), size, /*realloc_if_needed=*/false).get(root);
  TORCH_CHECK(!error, location, ": not valid JSON: ", simdjson::error_message(error));
  TORCH_CHECK(root.is_object(), location, ": got ", kind_of(root),
              ", expected an object with a field `text`");
  simdjson::dom::element field;
  TORCH_CHECK(!root["text"].get(field), location,
              ": the object has no field `text`, expected one that holds the document");
  std::string_view text;
  TORCH_CHECK(!field.get(text), location, ": the field `text` is ", kind_of(field),
              ", expected a string");
  return std::string(text);
}

class JsonlSource final : public TextSource {
 public:
  explicit JsonlSource(std::vector<std::string> paths) {
    std::string buffer(1 << 18, '\0');
    for (std::string& path : paths) {
      std::vector<int64_t> line_ends = find_line_ends(path, buffer);
      const auto num_lines = static_cast<int64_t>(line_ends.size());
      files_.push_back({std::move(path), std::move(line_ends), num_documents_});
      num_documents_ += num_lines;
    }
  }

  int64_t num_documents() const override { return num_documents_; }

  std::string text(int64_t index) const override { return read(index, InvalidUtf8::kReplace).text; }

  std::string location(int64_t index) const override {
    const LineFile& file = file_of(index);
    return file.path + ':' + std::to_string(index - file.first_document + 1);
  }

  SourceDocument read(int64_t index, InvalidUtf8 policy) const override {
    const std::string where = location(index);
    SourceDocument line = check_utf8(read_line(index), policy, where);
    if (line.text.starts_with(kByteOrderMark) && index == file_of(index).first_document) {
      line.text.erase(0, kByteOrderMark.size());
    }
    if (is_blank(line.text)) return {"", line.num_replaced};
    return {parse_text(std::move(line.text), where), line.num_replaced};
  }

 private:
  const LineFile& file_of(int64_t index) const {
    TORCH_CHECK(index >= 0 && index < num_documents_, "document: got index ", index,
                ", expected [0, ", num_documents_, ")");
    const auto after = std::upper_bound(
        files_.begin(), files_.end(), index,
        [](int64_t document, const LineFile& file) { return document < file.first_document; });
    return *(after - 1);
  }

  std::string read_line(int64_t index) const {
    const LineFile& file = file_of(index);
    const auto line = static_cast<size_t>(index - file.first_document);
    const int64_t begin = line == 0 ? 0 : file.line_ends[line - 1];
    std::string bytes(static_cast<size_t>(file.line_ends[line] - begin), '\0');
    InputFile(file.path).read_at(begin, bytes.data(), static_cast<int64_t>(bytes.size()));
    return bytes;
  }

  std::vector<LineFile> files_;
  int64_t num_documents_ = 0;
};

}  // namespace

std::unique_ptr<TextSource> open_jsonl_files(std::vector<std::string> files) {
  const std::string first = files.empty() ? "" : files.front();
  const size_t num_files = files.size();
  auto source = std::make_unique<JsonlSource>(std::move(files));
  TORCH_CHECK(source->num_documents() > 0, "training.dataset_path: all ", num_files,
              " files are empty (the first is ", first, "), expected lines of JSON");
  return source;
}

}  // namespace tessera
