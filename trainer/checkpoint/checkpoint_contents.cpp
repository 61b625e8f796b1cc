#include "trainer/checkpoint/checkpoint_contents.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/files/crc32c.h"
#include "data/files/safetensors.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kWholeTensors = 1, kParts = 2;  // format versions

// Arrays of arrays, not objects: large layouts list a million parts.
Json to_json(const SavedTensors& tensors) {
  Json json = Json::object();
  for (const auto& [name, tensor] : tensors) {
    Json parts = Json::array();
    for (const SavedPart& part : tensor.parts) {
      parts.push_back({part.file, part.rectangle.offset, part.rectangle.shape});
    }
    json[name] = {{"dtype", safetensors_dtype_name(tensor.dtype)},
                  {"shape", tensor.shape},
                  {"parts", std::move(parts)}};
  }
  return json;
}

Json to_json(const std::map<std::string, FileDigest>& files) {
  Json json = Json::object();
  for (const auto& [name, digest] : files) {
    json[name] = {{"num_bytes", digest.num_bytes}, {"crc32c", digest.crc32c}};
  }
  return json;
}

Json tensors_to_json(const CheckpointContents& contents) {
  return {{kModelStem, to_json(contents.model)}, {kOptimizerStem, to_json(contents.optimizer)}};
}

// The functions that read JSON throw Json::exception for absent keys and values of another type.
SavedTensors tensors_from_json(const Json& json) {
  SavedTensors tensors;
  for (const auto& [name, value] : json.items()) {
    SavedTensor& tensor = tensors[name];
    const auto dtype_name = value.at("dtype").get<std::string>();
    const std::optional<at::ScalarType> dtype = safetensors_dtype(dtype_name);
    TORCH_CHECK(dtype, "tensor ", name, ": unknown dtype ", dtype_name);
    tensor.dtype = *dtype;
    tensor.shape = value.at("shape").get<std::vector<int64_t>>();
    for (const Json& part : value.at("parts")) {
      tensor.parts.push_back({.file = part.at(0).get<std::string>(),
                              .rectangle = {.offset = part.at(1).get<std::vector<int64_t>>(),
                                            .shape = part.at(2).get<std::vector<int64_t>>()}});
    }
  }
  return tensors;
}

std::map<std::string, FileDigest> files_from_json(const Json& json) {
  std::map<std::string, FileDigest> files;
  for (const auto& [name, digest] : json.items()) {
    files[name] = {.num_bytes = digest.at("num_bytes").get<uint64_t>(),
                   .crc32c = digest.at("crc32c").get<uint32_t>()};
  }
  return files;
}

bool is_written_by_one(const CheckpointContents& contents) {
  return contents.files.contains(checkpoint_file(kModelStem, 0, 1));
}

Json to_json(const Manifest& manifest) {
  const TrainState& state = manifest.state;
  const CheckpointContents& contents = manifest.contents;
  const bool by_one = is_written_by_one(contents);
  Json json = {{"format_version", by_one ? kWholeTensors : kParts},
               {"model", manifest.model_description},
               {"step", state.step},
               {"num_tokens", state.num_tokens},
               {"loader",
                {{"epoch", state.loader.epoch},
                 {"document", state.loader.document},
                 {"token", state.loader.token}}},
               {"files", to_json(contents.files)}};
  if (!by_one) json["tensors"] = tensors_to_json(contents);
  return json;
}

Manifest manifest_from_json(const Json& json, int64_t version) {
  Manifest manifest;
  manifest.model_description = json.at("model").get<std::string>();
  manifest.state.step = json.at("step").get<int64_t>();
  manifest.state.num_tokens = json.at("num_tokens").get<int64_t>();
  const Json& loader = json.at("loader");
  manifest.state.loader = {.epoch = loader.at("epoch").get<int64_t>(),
                           .document = loader.at("document").get<int64_t>(),
                           .token = loader.at("token").get<int64_t>()};
  CheckpointContents& contents = manifest.contents;
  contents.files = files_from_json(json.at("files"));
  if (version == kWholeTensors) {
    json.at("files").at(checkpoint_file(kModelStem, 0, 1));
  } else {
    const Json& tensors = json.at("tensors");
    contents.model = tensors_from_json(tensors.at(kModelStem));
    contents.optimizer = tensors_from_json(tensors.at(kOptimizerStem));
  }
  return manifest;
}

// The CRC-32C of the compact text, in which the order of keys and the spelling of numbers are
// fixed.
uint32_t checksum_of(const Json& json) {
  const std::string text = json.dump();
  return crc32c(text.data(), text.size());
}

void merge(SavedTensors& into, const SavedTensors& from) {
  for (const auto& [name, tensor] : from) {
    const auto [found, is_new] = into.emplace(name, tensor);
    if (is_new) continue;
    SavedTensor& ours = found->second;
    TORCH_CHECK(ours.shape == tensor.shape && ours.dtype == tensor.dtype, "tensor ", name,
                ": one rank saves a part of ", tensor.dtype, " ", at::IntArrayRef(tensor.shape),
                ", another of ", ours.dtype, " ", at::IntArrayRef(ours.shape),
                "; expected the same whole");
    ours.parts.insert(ours.parts.end(), tensor.parts.begin(), tensor.parts.end());
  }
}

}  // namespace

void merge(CheckpointContents& into, const CheckpointContents& from) {
  for (const auto& [name, digest] : from.files) {
    TORCH_CHECK(into.files.emplace(name, digest).second, "two ranks wrote ", name);
  }
  merge(into.model, from.model);
  merge(into.optimizer, from.optimizer);
}

void check_parts(const SavedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    std::vector<Rectangle> rectangles;
    for (const SavedPart& part : tensor.parts) rectangles.push_back(part.rectangle);
    check_tiling("tensor " + name, tensor.shape, rectangles);
  }
}

std::string to_text(const CheckpointContents& contents) {
  return Json{{"files", to_json(contents.files)}, {"tensors", tensors_to_json(contents)}}.dump();
}

CheckpointContents contents_from_text(const std::string& text) {
  const Json json = Json::parse(text);
  return {.files = files_from_json(json.at("files")),
          .model = tensors_from_json(json.at("tensors").at(kModelStem)),
          .optimizer = tensors_from_json(json.at("tensors").at(kOptimizerStem))};
}

std::string checkpoint_folder(const std::string& folder, int64_t step) {
  return (fs::path(folder) / (std::string(kCheckpointStepPrefix) + std::to_string(step))).string();
}

void check_file_size(const std::string& path, const FileDigest& expected) {
  std::error_code error;
  const uint64_t num_bytes = fs::file_size(path, error);
  TORCH_CHECK(!error, "cannot read ", path, ": ", error.message());
  TORCH_CHECK(num_bytes == expected.num_bytes, path, ": got ", num_bytes, " bytes, expected ",
              expected.num_bytes, " (damaged after it was written)");
}

void write_manifest(const std::string& folder, const Manifest& manifest) {
  const Json content = to_json(manifest);
  const Json file = {{"checkpoint", content}, {"crc32c", checksum_of(content)}};
  const int indent = is_written_by_one(manifest.contents) ? 2 : -1;  // a line a number is too long
  write_durable_file((fs::path(folder) / kManifestFile).string(), file.dump(indent) + "\n");
}

Manifest read_manifest(const std::string& folder) {
  const std::string path = (fs::path(folder) / kManifestFile).string();
  std::ifstream stream(path);
  TORCH_CHECK(stream, "no checkpoint in ", folder, ": cannot open ", kManifestFile);
  try {
    const Json file = Json::parse(stream);
    const Json& content = file.at("checkpoint");
    const uint32_t expected = file.at("crc32c").get<uint32_t>();
    TORCH_CHECK(checksum_of(content) == expected, path, ": got CRC-32C ", checksum_of(content),
                ", expected ", expected, ": changed after it was written");
    const Json& version = content.at("format_version");
    TORCH_CHECK(version == kWholeTensors || version == kParts, path, ": format_version: got ",
                version.dump(), ", expected ", kWholeTensors, " or ", kParts);
    return manifest_from_json(content, version.get<int64_t>());
  } catch (const Json::exception& error) {
    C10_THROW_ERROR(Error,
                    c10::str(path, ": not a checkpoint's state, or damaged: ", error.what()));
  }
}

std::string checkpoint_file(const std::string& stem, int64_t index, int64_t num_writers) {
  if (num_writers == 1) return stem + ".safetensors";
  char numbers[64];
  std::snprintf(numbers, sizeof(numbers), "-%05lld-of-%05lld", static_cast<long long>(index + 1),
                static_cast<long long>(num_writers));
  return stem + numbers + ".safetensors";
}

}  // namespace tessera
