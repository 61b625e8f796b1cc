#include "data/files/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"
#include "tests/support/same_bits.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::content_of;
using testing::golden;
using testing::same_bits;
using testing::TempDir;

// The tensors of dtypes.safetensors; see tests/golden/models/README.md.
NamedTensors tensors_of_every_dtype() {
  const std::vector<std::pair<std::string, at::ScalarType>> types = {
      {"bool", at::kBool},
      {"u8", at::kByte},
      {"i8", at::kChar},
      {"f8_e5m2", at::kFloat8_e5m2},
      {"f8_e4m3", at::kFloat8_e4m3fn},
      {"f8_e4m3fnuz", at::kFloat8_e4m3fnuz},
      {"f8_e5m2fnuz", at::kFloat8_e5m2fnuz},
      {"i16", at::kShort},
      {"u16", at::kUInt16},
      {"f16", at::kHalf},
      {"bf16", at::kBFloat16},
      {"i32", at::kInt},
      {"u32", at::kUInt32},
      {"f32", at::kFloat},
      {"c64", at::kComplexFloat},
      {"f64", at::kDouble},
      {"i64", at::kLong},
      {"u64", at::kUInt64},
  };
  NamedTensors tensors;
  const at::Tensor values = at::tensor({0.0, 1.0, 2.0});
  for (const auto& [name, type] : types) tensors.emplace_back(name, values.to(type));
  tensors.emplace_back("f8_e8m0", at::tensor({1.0, 2.0, 4.0}).to(at::kFloat8_e8m0fnu));
  tensors.emplace_back("scalar", at::full({}, 1.5, at::kFloat));
  tensors.emplace_back("empty", at::zeros({0, 3}, at::kFloat));
  tensors.emplace_back("a \"quoted\" \\ name\n\u00e9",
                       at::tensor({1, 2, 3, 4}, at::kInt).view({2, 2}));
  return tensors;
}

TEST(SafetensorsFile, ReadsEveryDtypeThatTheReferenceWrites) {
  const SafetensorsFile file(golden("models/dtypes.safetensors").string());
  const NamedTensors expected = tensors_of_every_dtype();
  EXPECT_EQ(file.names().size(), expected.size());
  EXPECT_EQ(file.names().front(), "u64");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(file.contains(name)) << name;
    EXPECT_TRUE(same_bits(file.get(name), tensor)) << name;
    EXPECT_EQ(file.dtype(name), tensor.scalar_type()) << name;
    EXPECT_EQ(at::IntArrayRef(file.sizes(name)), tensor.sizes()) << name;
  }
  EXPECT_FALSE(file.contains("other"));
  EXPECT_ERROR(file.get("other"), "dtypes.safetensors", "no tensor \"other\"");
}

TEST(SafetensorsFile, ReturnsCopiesThatOutliveIt) {
  const TempDir dir;
  const std::string path = (dir.path() / "a.safetensors").string();
  write_safetensors(path, {{"a", at::full({3}, 2.0)}});
  at::Tensor tensor;
  {
    const SafetensorsFile file(path);
    file.get("a").zero_();
    tensor = file.get("a");
  }
  EXPECT_TRUE(same_bits(tensor, at::full({3}, 2.0)));
}

TEST(SafetensorsFile, ReadsARectangle) {
  const TempDir dir;
  const std::string path = (dir.path() / "a.safetensors").string();
  const at::Tensor whole = at::arange(60, at::kShort).view({5, 4, 3});
  write_safetensors(path, {{"a", whole}, {"s", at::full({}, 2.0)}, {"e", at::zeros({0, 3})}});
  const SafetensorsFile file(path);
  EXPECT_TRUE(same_bits(file.get("a", {{1, 2, 0}, {3, 1, 3}}),
                        whole.narrow(0, 1, 3).narrow(1, 2, 1).contiguous()));
  EXPECT_TRUE(same_bits(file.get("a", {{0, 0, 0}, {5, 4, 3}}), whole));
  EXPECT_EQ(file.get("a", {{5, 0, 0}, {0, 4, 3}}).numel(), 0);
  EXPECT_EQ(file.get("e", {{0, 1}, {0, 1}}).numel(), 0);
  EXPECT_TRUE(same_bits(file.get("s", {}), at::full({}, 2.0)));
  EXPECT_ERROR(file.get("a", {{3, 0, 0}, {3, 4, 3}}), "a.safetensors", "\"a\"", "[3, 0, 0]",
               "inside");
  EXPECT_ERROR(file.get("a", {{0}, {3}}), "inside", "[5, 4, 3]");
}

TEST(WriteSafetensors, IsByteForByteWhatTheReferenceWrites) {
  const TempDir dir;
  const std::string path = (dir.path() / "a.safetensors").string();
  const FileDigest digest =
      write_safetensors(path, tensors_of_every_dtype(), {.metadata = {{"format", "pt"}}});
  EXPECT_EQ(content_of(path), content_of(golden("models/dtypes.safetensors")));
  EXPECT_EQ(digest, digest_of_file(path));

  for (const char* name : {"llama_tied/model.safetensors", "llama/io.safetensors"}) {
    const SafetensorsFile file(golden(std::string("models/") + name).string());
    NamedTensors tensors;
    for (const std::string& tensor : file.names()) tensors.emplace_back(tensor, file.get(tensor));
    write_safetensors(path, tensors, {.metadata = file.metadata()});
    EXPECT_EQ(content_of(path), content_of(file.path())) << name;
  }
}

TEST(WriteSafetensors, WritesStridedTensorsInRowMajorOrder) {
  const TempDir dir;
  const std::string path = (dir.path() / "a.safetensors").string();
  const at::Tensor matrix = at::tensor({1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F}).view({2, 3});
  const at::Tensor complex = at::complex(matrix, matrix.neg());
  write_safetensors(path, {{"transposed", matrix.t()},
                           {"slice", matrix.slice(1, 0, 3, 2)},
                           {"expanded", at::full({1}, 7.0).expand({4})},
                           {"conjugate", complex.conj()},
                           {"leaf", matrix.clone().set_requires_grad(true)}});
  const SafetensorsFile file(path);
  EXPECT_TRUE(same_bits(file.get("transposed"), matrix.t().contiguous()));
  EXPECT_TRUE(same_bits(file.get("slice"), at::tensor({1.0F, 3.0F, 4.0F, 6.0F}).view({2, 2})));
  EXPECT_TRUE(same_bits(file.get("expanded"), at::full({4}, 7.0)));
  EXPECT_TRUE(same_bits(file.get("conjugate"), at::complex(matrix, matrix)));
  EXPECT_TRUE(same_bits(file.get("leaf"), matrix));
}

TEST(WriteSafetensors, CastsFloatingPointTensorsOnRequest) {
  const TempDir dir;
  const std::string path = (dir.path() / "a.safetensors").string();
  const at::Tensor weights = at::tensor({0.1F, -3.3F, 1e20F});
  const at::Tensor ids = at::tensor({1, 2}, at::kLong);
  write_safetensors(path, {{"weights", weights}, {"ids", ids}}, {.floating_dtype = at::kBFloat16});
  const SafetensorsFile file(path);
  EXPECT_TRUE(same_bits(file.get("weights"), weights.to(at::kBFloat16)));
  EXPECT_TRUE(same_bits(file.get("ids"), ids));
}

TEST(WriteSafetensors, RefusesWhatTheFormatCannotHold) {
  const TempDir dir;
  const std::string path = (dir.path() / "a.safetensors").string();
  const at::Tensor one = at::zeros({1});
  EXPECT_ERROR(write_safetensors(path, {{"a", one}, {"a", one}}), path, "\"a\"", "twice");
  EXPECT_ERROR(write_safetensors(path, {{"a", at::Tensor()}}), path, "\"a\"", "undefined");
  EXPECT_ERROR(write_safetensors(path, {{"__metadata__", one}}), path, "__metadata__");
  EXPECT_ERROR(write_safetensors(path, {{"a", one.to(at::kComplexDouble)}}), path, "\"a\"",
               "ComplexDouble");
  EXPECT_ERROR(write_safetensors(path, {{"a", at::empty({1}, at::kMeta)}}), path, "\"a\"", "meta");
  EXPECT_ERROR(write_safetensors(path, {{"\xff", one}}), path, "UTF-8");
  EXPECT_ERROR(write_safetensors(path, {}, {.metadata = {{"a", "\xff"}}}), path, "UTF-8");
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(WriteSafetensors, ReportsAFullDiskAndLeavesTheOldFile) {
  const TempDir dir;
  const std::string path = (dir.path() / "a.safetensors").string();
  write_safetensors(path, {{"a", at::zeros({1})}});
  fs::create_symlink("/dev/full", path + ".tmp");
  EXPECT_ERROR(write_safetensors(path, {{"a", at::full({1}, 1.0)}}), path,
               "No space left on device");
  EXPECT_TRUE(same_bits(SafetensorsFile(path).get("a"), at::zeros({1})));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()), 1);
  EXPECT_ERROR(write_safetensors((dir.path() / "no" / "a").string(), {}), "cannot create",
               "No such file or directory");
}

// --------------------------------------------------------------------------------------- folders

TEST(SafetensorsFolder, ReadsShardsByTheirIndex) {
  const SafetensorsFolder folder(golden("models/llama").string());
  EXPECT_EQ(folder.names().size(), 21u);
  EXPECT_TRUE(folder.contains("lm_head.weight"));
  EXPECT_EQ(folder.get("lm_head.weight").sizes(), (at::IntArrayRef{192, 64}));
  EXPECT_TRUE(
      folder.file_of("lm_head.weight").path().ends_with("model-00003-of-00003.safetensors"));
  EXPECT_ERROR(folder.get("other"), "models/llama", "no tensor \"other\"");
}

TEST(SafetensorsFolder, ReadsASingleFile) {
  const SafetensorsFolder folder(golden("models/llama_tied").string());
  EXPECT_EQ(folder.names().size(), 20u);
  EXPECT_EQ(folder.get("model.norm.weight").scalar_type(), at::kBFloat16);
}

class BadFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    write_safetensors((dir_.path() / "one.safetensors").string(), {{"a", at::zeros({1})}});
  }
  void expect_index_error(const std::string& index, std::initializer_list<std::string> parts) {
    const std::string path = dir_.write("model.safetensors.index.json", index);
    const std::string message =
        testing::message_of([&] { SafetensorsFolder folder(dir_.path().string()); });
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << "expected " << part << " in: " << message;
    }
    EXPECT_NE(message.find(dir_.path().string()), std::string::npos) << message;
  }
  TempDir dir_;
};

TEST_F(BadFolder, IsReportedWithItsFile) {
  EXPECT_ERROR(SafetensorsFolder(dir_.path().string()), dir_.path().string(), "no weights");
  EXPECT_ERROR(SafetensorsFolder("/no/such/folder"), "no folder /no/such/folder");
  expect_index_error("{", {"index.json", "not valid JSON"});
  expect_index_error("[]", {"index.json", "weight_map"});
  expect_index_error(R"({"weight_map":{"a":1}})", {"weight_map[\"a\"]", "1", "file name"});
  for (const char* outside : {"", "../one.safetensors", "/etc/passwd", "x/one.safetensors"}) {
    expect_index_error(std::string(R"({"weight_map":{"a":")") + outside + "\"}}",
                       {"weight_map[\"a\"]", outside, "in the same folder"});
  }
  expect_index_error(R"({"weight_map":{"a":"two.safetensors"}})",
                     {"two.safetensors", "No such file"});
  expect_index_error(R"({"weight_map":{"b":"one.safetensors"}})",
                     {"weight_map[\"b\"]", "one.safetensors", "no such tensor"});
}

TEST_F(BadFolder, ListsATensorThatTheIndexLacks) {
  write_safetensors((dir_.path() / "two.safetensors").string(),
                    {{"a", at::zeros({1})}, {"b", at::zeros({1})}});
  expect_index_error(R"({"weight_map":{"b":"two.safetensors"}})",
                     {"two.safetensors", "\"a\"", "not listed"});
  expect_index_error(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})",
                     {"two.safetensors", "\"a\"", "not listed"});
}

}  // namespace
}  // namespace tessera
