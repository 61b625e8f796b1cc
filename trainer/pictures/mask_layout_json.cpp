// The JSON form of a mask layout; see mask_layout.h.
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "trainer/pictures/mask_layout_input.h"
#include "trainer/support/parse_json.h"

namespace tessera {
namespace {

using nlohmann::json;

int64_t integer_of(const json& value, const std::string& where) {
  const bool too_large =
      value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  TORCH_CHECK(value.is_number_integer() && !too_large, where, ": got ", shown(value),
              ", expected an integer");
  return value.get<int64_t>();
}

std::vector<int64_t> integers_of(const json& value, const std::string& where) {
  TORCH_CHECK(value.is_array(), where, ": got ", shown(value), ", expected a list of integers");
  std::vector<int64_t> integers;
  for (const json& item : value) {
    integers.push_back(integer_of(item, where + ": item " + std::to_string(integers.size() + 1)));
  }
  return integers;
}

std::vector<ImageInput> images_of(const json& value, const std::string& where) {
  TORCH_CHECK(value.is_array(), where, ": got ", shown(value),
              ", expected a list of [start, length]");
  std::vector<ImageInput> images;
  for (const json& item : value) {
    const std::string place = where + ": item " + std::to_string(images.size() + 1);
    const std::vector<int64_t> pair = integers_of(item, place);
    TORCH_CHECK(pair.size() == 2, place, ": got ", pair.size(),
                " integers, expected [start, length]");
    images.push_back({pair[0], pair[1]});
  }
  return images;
}

// The members of one JSON object, taken by key; what is left over is unknown.
class Members {
 public:
  Members(const json& object, std::string prefix) : object_(object), prefix_(std::move(prefix)) {
    TORCH_CHECK(object.is_object(), prefix_, " got ", shown(object), ", expected an object");
  }

  // read(value, where) is called when the key is there.
  template <typename Read>
  auto take(const char* key, Read read) {
    using Value = decltype(read(object_, prefix_));
    known_.emplace_back(key);
    const auto member = object_.find(key);
    std::optional<Given<Value>> given;
    if (member != object_.end()) given = Given<Value>{read(*member, place(key)), place(key)};
    return given;
  }

  void check_all_known() const {
    for (const auto& [key, value] : object_.items()) {
      TORCH_CHECK(std::find(known_.begin(), known_.end(), key) != known_.end(), place(key),
                  ": unknown key, expected one of: ", c10::Join(", ", known_));
    }
  }

 private:
  std::string place(const std::string& key) const { return prefix_ + " " + key; }

  const json& object_;
  std::string prefix_;
  std::vector<std::string> known_;
};

LayoutRowInput take_row(Members& members) {
  return {.documents = members.take("documents", integers_of),
          .positions = members.take("positions", integers_of),
          .images = members.take("images", images_of),
          .prefix = members.take("prefix", integer_of)};
}

std::vector<LayoutRowInput> rows_of(const json& value, const std::string& where) {
  TORCH_CHECK(value.is_array() && !value.empty(), where, ": got ", shown(value),
              ", expected a list of one or more objects");
  std::vector<LayoutRowInput> rows;
  for (const json& item : value) {
    Members members(item, where + "[" + std::to_string(rows.size()) + "]:");
    rows.push_back(take_row(members));
    members.check_all_known();
  }
  return rows;
}

}  // namespace

LayoutInput parse_layout_json(const std::string& text, const std::string& name) {
  const json object = parse_json(text, name);
  Members members(object, name + ":");
  LayoutInput input{.name = name};
  input.tokens = members.take("tokens", integer_of);
  input.window = members.take("window", [](const json& value, const std::string& where) {
    return value.is_array() ? integers_of(value, where)
                            : std::vector<int64_t>{integer_of(value, where)};
  });
  input.chunk = members.take("chunk", integer_of);
  const LayoutRowInput only_row = take_row(members);
  auto rows = members.take("rows", rows_of);
  members.check_all_known();
  if (!rows) {
    input.rows = {only_row};
    return input;
  }
  const bool clashes =
      only_row.documents || only_row.positions || only_row.images || only_row.prefix;
  TORCH_CHECK(!clashes, rows->where, ": got it together with documents, positions, images or ",
              "prefix beside it, expected these inside the rows");
  input.rows = std::move(rows->value);
  return input;
}

}  // namespace tessera
