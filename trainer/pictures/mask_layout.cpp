#include "trainer/pictures/mask_layout.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <numeric>
#include <sstream>

#include "trainer/pictures/mask_layout_input.h"

namespace tessera {
namespace {

void check_range(const std::string& where, int64_t value, int64_t low, int64_t high) {
  TORCH_CHECK(value >= low && value <= high, where, ": got ", value, ", expected ", low, " to ",
              high);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::vector<ImageInput> images_of(const std::string& text, const std::string& where) {
  std::vector<ImageInput> images;
  for (const std::string& part : split(text, ',')) {
    const size_t colon = part.find(':');
    TORCH_CHECK(colon != std::string::npos, where, ": got \"", part, "\", expected start:length");
    images.push_back({integer_of(part.substr(0, colon), where + ": start"),
                      integer_of(part.substr(colon + 1), where + ": length")});
  }
  return images;
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();  // a folder opens, and then cannot be read
  TORCH_CHECK(file.is_open() && !content.bad() && !content.str().empty(), "--layout: got \"", path,
              "\", expected a JSON file that can be read");
  return content.str();
}

LayoutInput input_of_sources(const LayoutFlags& flags) {
  if (flags.layout) {
    const auto exclude = [](const char* flag, bool given) {
      TORCH_CHECK(!given, flag, ": got it together with --layout, expected one of the two");
    };
    exclude("--tokens", flags.tokens.has_value());
    exclude("--documents", flags.documents.has_value());
    exclude("--positions", flags.positions.has_value());
    return parse_layout_json(content_of(*flags.layout), *flags.layout);
  }
  LayoutInput input{.rows = {LayoutRowInput{}}};
  LayoutRowInput& row = input.rows.front();
  if (flags.tokens) input.tokens = {integer_of(*flags.tokens, "--tokens"), "--tokens"};
  if (flags.documents)
    row.documents = {integers_of(*flags.documents, "--documents"), "--documents"};
  if (flags.positions)
    row.positions = {integers_of(*flags.positions, "--positions"), "--positions"};
  TORCH_CHECK(input.tokens || row.documents || row.positions,
              "no layout: expected --tokens, --documents, --positions or --layout");
  return input;
}

// Gives `target` a flag's value, unless the layout file has said the same.
template <typename T>
void put(const std::string& flag, T value, std::optional<Given<T>>& target) {
  TORCH_CHECK(!target, flag, ": got it together with \"", target->where,
              "\", expected one of the two");
  target = Given<T>{std::move(value), flag};
}

LayoutInput input_of(const LayoutFlags& flags) {
  LayoutInput input = input_of_sources(flags);
  if (flags.window) put("--window", integers_of(*flags.window, "--window"), input.window);
  if (flags.chunk) put("--chunk", integer_of(*flags.chunk, "--chunk"), input.chunk);
  for (LayoutRowInput& row : input.rows) {
    if (flags.images) put("--images", images_of(*flags.images, "--images"), row.images);
    if (flags.prefix) put("--prefix", integer_of(*flags.prefix, "--prefix"), row.prefix);
  }
  return input;
}

std::vector<int64_t> documents_of_positions(const Given<std::vector<int64_t>>& positions) {
  TORCH_CHECK(!positions.value.empty(), positions.where, ": got none, expected at least one");
  std::vector<int64_t> documents;
  for (size_t t = 0; t < positions.value.size(); ++t) {
    TORCH_CHECK(positions.value[t] >= 0, positions.where, ": item ", t + 1, ": got ",
                positions.value[t], ", expected 0 or more");
    const bool follows = t > 0 && positions.value[t] == positions.value[t - 1] + 1;
    if (!follows) documents.push_back(0);
    ++documents.back();
  }
  return documents;
}

// Empty when nothing is said: the row is one document.
std::vector<int64_t> documents_of(const LayoutRowInput& row) {
  if (row.positions) {
    TORCH_CHECK(!row.documents, row.positions->where, ": got it together with \"",
                row.documents->where, "\", expected one of the two");
    return documents_of_positions(*row.positions);
  }
  if (!row.documents) return {};
  TORCH_CHECK(!row.documents->value.empty(), row.documents->where,
              ": got none, expected at least one");
  for (size_t i = 0; i < row.documents->value.size(); ++i) {
    check_range(row.documents->where + ": item " + std::to_string(i + 1), row.documents->value[i],
                1, kMaxLayoutTokens);
  }
  return row.documents->value;
}

int64_t total(const std::vector<int64_t>& documents) {
  return std::accumulate(documents.begin(), documents.end(), int64_t{0});
}

// The tokens that images name, ascending.
std::vector<TokenRange> checked_images(const Given<std::vector<ImageInput>>& input,
                                       const std::vector<DocumentSpan>& spans) {
  const int64_t num_tokens = spans.back().tokens.end;
  std::vector<TokenRange> images;
  for (const ImageInput& image : input.value) {
    check_range(input.where + ": start", image.start, 0, num_tokens - 1);
    check_range(input.where + ": length", image.length, 1, num_tokens);
    images.push_back({image.start, image.start + image.length});
  }
  std::sort(images.begin(), images.end(),
            [](const TokenRange& a, const TokenRange& b) { return a.begin < b.begin; });
  for (size_t i = 0; i < images.size(); ++i) {
    const int64_t begin = images[i].begin;
    const int64_t end = images[i].end;
    const auto span = std::find_if(spans.begin(), spans.end(), [&](const DocumentSpan& candidate) {
      return begin < candidate.tokens.end;
    });
    TORCH_CHECK(!span->padding && end <= span->tokens.end, input.where, ": got tokens ", begin,
                " to ", end, ", expected tokens of one document");
    TORCH_CHECK(i == 0 || images[i - 1].end <= begin, input.where, ": got tokens ", begin, " to ",
                end, " after ", images[i - 1].begin, " to ", images[i - 1].end,
                ", expected images that do not overlap");
  }
  return images;
}

LayoutRow checked_row(const LayoutRowInput& input, std::vector<int64_t> documents,
                      int64_t num_tokens) {
  const int64_t used = total(documents);
  if (used > num_tokens) {
    const std::string& where = input.documents ? input.documents->where : input.positions->where;
    TORCH_CHECK(false, where, ": got ", used, " tokens, expected at most the ", num_tokens,
                " of a row");
  }
  if (documents.empty()) documents.push_back(num_tokens);
  LayoutRow row{.documents = std::move(documents)};
  if (input.images) row.images = checked_images(*input.images, document_spans(row, num_tokens));
  if (input.prefix) {
    check_range(input.prefix->where, input.prefix->value, 0, num_tokens);
    row.prefix = input.prefix->value;
  }
  return row;
}

Window checked_window(const Given<std::vector<int64_t>>& input) {
  TORCH_CHECK(input.value.size() == 1 || input.value.size() == 2, input.where, ": got ",
              input.value.size(), " integers, expected left, or left and right");
  for (const int64_t side : input.value) check_range(input.where, side, 0, kMaxLayoutTokens);
  Window window{.left = input.value.front()};
  if (input.value.size() == 2) window.right = input.value.back();
  return window;
}

MaskLayout checked_layout(const LayoutInput& input) {
  MaskLayout layout;
  std::vector<std::vector<int64_t>> documents;
  for (const LayoutRowInput& row : input.rows) {
    documents.push_back(documents_of(row));
    layout.num_tokens = std::max(layout.num_tokens, total(documents.back()));
  }
  if (input.tokens) {
    check_range(input.tokens->where, input.tokens->value, 1, kMaxLayoutTokens);
    layout.num_tokens = input.tokens->value;
  }
  TORCH_CHECK(layout.num_tokens > 0, input.name,
              ": got no length of a row, expected tokens, documents or positions");
  check_range("tokens of a row", layout.num_tokens, 1, kMaxLayoutTokens);
  for (size_t i = 0; i < documents.size(); ++i) {
    layout.rows.push_back(checked_row(input.rows[i], documents[i], layout.num_tokens));
  }
  if (input.window) layout.window = checked_window(*input.window);
  if (input.chunk) {
    check_range(input.chunk->where, input.chunk->value, 1, kMaxLayoutTokens);
    layout.chunk = input.chunk->value;
  }
  return layout;
}

}  // namespace

bool MaskLayout::has_images() const {
  return std::any_of(rows.begin(), rows.end(),
                     [](const LayoutRow& row) { return row.images.has_value(); });
}

bool MaskLayout::has_prefix() const {
  return std::any_of(rows.begin(), rows.end(),
                     [](const LayoutRow& row) { return row.prefix.has_value(); });
}

std::vector<DocumentSpan> document_spans(const LayoutRow& row, int64_t num_tokens) {
  std::vector<DocumentSpan> spans;
  int64_t begin = 0;
  for (const int64_t length : row.documents) {
    spans.push_back({.tokens = {begin, begin + length}});
    begin += length;
  }
  if (begin < num_tokens) spans.push_back({.tokens = {begin, num_tokens}, .padding = true});
  return spans;
}

int64_t integer_of(const std::string& text, const std::string& where) {
  const size_t begin = std::min(text.find_first_not_of(' '), text.size());
  const size_t end = text.find_last_not_of(' ') + 1;  // 0 when there is nothing else
  int64_t value = 0;
  const char* last = text.data() + std::max(begin, end);
  const auto [stop, error] = std::from_chars(text.data() + begin, last, value);
  TORCH_CHECK(error == std::errc() && stop == last, where, ": got \"", text,
              "\", expected an integer");
  return value;
}

std::vector<int64_t> integers_of(const std::string& text, const std::string& where) {
  std::vector<int64_t> values;
  for (const std::string& part : split(text, ',')) {
    values.push_back(integer_of(part, where + ": item " + std::to_string(values.size() + 1)));
  }
  return values;
}

MaskLayout read_layout(const LayoutFlags& flags) { return checked_layout(input_of(flags)); }

}  // namespace tessera
