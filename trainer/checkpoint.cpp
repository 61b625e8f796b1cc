#include "trainer/checkpoint.h"

#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/crc32c.h"
#include "models/durable_file.h"
#include "models/tensor_mismatches.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kFormatVersion = 1;
constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kStateFile = "train_state.json";
constexpr std::string_view kStepPrefix = "step-";
constexpr std::string_view kTempSuffix = ".tmp";

std::string step_folder(const std::string& folder, int64_t step) {
  return (fs::path(folder) / (std::string(kStepPrefix) + std::to_string(step))).string();
}

std::string in_folder(const std::string& folder, const std::string& name) {
  return (fs::path(folder) / name).string();
}

// -------------------------------------------------------------------------------- train_state.json

struct Manifest {
  TrainState state;
  std::string model_description;
  std::map<std::string, FileDigest> files;
};

Json to_json(const Manifest& manifest) {
  const TrainState& state = manifest.state;
  Json files = Json::object();
  for (const auto& [name, digest] : manifest.files) {
    files[name] = {{"num_bytes", digest.num_bytes}, {"crc32c", digest.crc32c}};
  }
  return {{"format_version", kFormatVersion},
          {"model", manifest.model_description},
          {"step", state.step},
          {"num_tokens", state.num_tokens},
          {"loader",
           {{"epoch", state.loader.epoch},
            {"document", state.loader.document},
            {"token", state.loader.token}}},
          {"files", files}};
}

// Throws Json::exception for absent keys and values of another type.
Manifest from_json(const Json& json) {
  Manifest manifest;
  manifest.model_description = json.at("model").get<std::string>();
  manifest.state.step = json.at("step").get<int64_t>();
  manifest.state.num_tokens = json.at("num_tokens").get<int64_t>();
  const Json& loader = json.at("loader");
  manifest.state.loader = {.epoch = loader.at("epoch").get<int64_t>(),
                           .document = loader.at("document").get<int64_t>(),
                           .token = loader.at("token").get<int64_t>()};
  json.at("files").at(kModelFile);
  for (const auto& [name, digest] : json.at("files").items()) {
    manifest.files[name] = {.num_bytes = digest.at("num_bytes").get<uint64_t>(),
                            .crc32c = digest.at("crc32c").get<uint32_t>()};
  }
  return manifest;
}

// Of the compact text, in which the order of keys and the spelling of numbers are fixed.
uint32_t checksum_of(const Json& json) {
  const std::string text = json.dump();
  return crc32c(text.data(), text.size());
}

void write_manifest(const std::string& folder, const Manifest& manifest) {
  const Json content = to_json(manifest);
  const Json file = {{"checkpoint", content}, {"crc32c", checksum_of(content)}};
  write_durable_file(in_folder(folder, kStateFile), file.dump(2) + "\n");
}

Manifest read_manifest(const std::string& folder) {
  const std::string path = in_folder(folder, kStateFile);
  std::ifstream stream(path);
  TORCH_CHECK(stream, "no checkpoint in ", folder, ": cannot open ", kStateFile);
  try {
    const Json file = Json::parse(stream);
    const Json& content = file.at("checkpoint");
    const uint32_t expected = file.at("crc32c").get<uint32_t>();
    TORCH_CHECK(checksum_of(content) == expected, path, ": got CRC-32C ", checksum_of(content),
                ", expected ", expected, ": changed after it was written");
    const Json& version = content.at("format_version");
    TORCH_CHECK(version == kFormatVersion, path, ": format_version: got ", version.dump(),
                ", expected ", kFormatVersion);
    return from_json(content);
  } catch (const Json::exception& error) {
    C10_THROW_ERROR(Error,
                    c10::str(path, ": not a checkpoint's state, or damaged: ", error.what()));
  }
}

// ------------------------------------------------------------------------------------- verifying

void check_size(const std::string& path, const FileDigest& expected) {
  std::error_code error;
  const uint64_t num_bytes = fs::file_size(path, error);
  TORCH_CHECK(!error, "cannot read ", path, ": ", error.message());
  TORCH_CHECK(num_bytes == expected.num_bytes, path, ": got ", num_bytes, " bytes, expected ",
              expected.num_bytes, " (damaged after it was written)");
}

void check_content(const std::string& path, const FileDigest& expected) {
  check_size(path, expected);
  const FileDigest got = digest_of_file(path);
  TORCH_CHECK(got == expected, path, ": got CRC-32C ", got.crc32c, ", expected ", expected.crc32c,
              " (damaged after it was written)");
}

bool is_complete(const std::string& folder) {
  try {
    for (const auto& [name, digest] : read_manifest(folder).files) {
      check_size(in_folder(folder, name), digest);
    }
    return true;
  } catch (const c10::Error&) {
    return false;
  }
}

// "step-20" -> 20; none for any other spelling, so that one step has one folder.
std::optional<int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  int64_t step = 0;
  std::from_chars(name.data() + kStepPrefix.size(), name.data() + name.size(), step);
  const bool is_canonical = step >= 0 && name == std::string(kStepPrefix) + std::to_string(step);
  return is_canonical ? std::optional(step) : std::nullopt;
}

std::string description_of(at::ScalarType dtype, at::IntArrayRef sizes) {
  std::ostringstream text;
  text << dtype << " " << sizes;
  return text.str();
}

void check_tensors(const SafetensorsFile& file, const NamedTensors& tensors, bool same_dtype) {
  TensorMismatches mismatches;
  std::vector<std::string> asked;
  for (const auto& [name, tensor] : tensors) {
    TORCH_CHECK(tensor.defined() && !tensor.is_meta(), "tensor ", name,
                " to load into has no storage: materialise the model first");
    asked.push_back(name);
    if (!file.contains(name)) {
      mismatches.add_missing(name);
    } else if (tensor.sizes() != at::IntArrayRef(file.sizes(name)) ||
               (same_dtype && tensor.scalar_type() != file.dtype(name))) {
      mismatches.add_different(name, description_of(file.dtype(name), file.sizes(name)),
                               description_of(tensor.scalar_type(), tensor.sizes()));
    }
  }
  std::sort(asked.begin(), asked.end());
  for (const std::string& name : file.names()) {
    if (!std::binary_search(asked.begin(), asked.end(), name)) mismatches.add_unexpected(name);
  }
  mismatches.check(file.path());
}

void copy_tensors(const SafetensorsFile& file, const NamedTensors& tensors) {
  const c10::AutoGradMode no_grad(false);
  for (const auto& [name, tensor] : tensors) tensor.copy_(file.get(name));
}

// Verifies all, then copies.
TrainState load_from(const std::string& path, const Manifest& manifest,
                     const CheckpointTensors& tensors) {
  const bool with_optimizer = !tensors.optimizer.empty();
  TORCH_CHECK(!with_optimizer || manifest.files.contains(kOptimizerFile), path,
              ": a model-only checkpoint has no optimizer state; a run can start from it, but not "
              "go on");
  for (const auto& [name, digest] : manifest.files) {
    const bool is_needed = name != kOptimizerFile || with_optimizer;
    if (is_needed) check_content(in_folder(path, name), digest);
  }
  const SafetensorsFile model(in_folder(path, kModelFile));
  check_tensors(model, tensors.model, /*same_dtype=*/with_optimizer);
  if (with_optimizer) {
    const SafetensorsFile optimizer(in_folder(path, kOptimizerFile));
    check_tensors(optimizer, tensors.optimizer, /*same_dtype=*/true);
    copy_tensors(optimizer, tensors.optimizer);
  }
  copy_tensors(model, tensors.model);
  return manifest.state;
}

// ---------------------------------------------------------------------------------------- writing

// A folder that is removed again unless it is published.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {
    std::error_code error;
    fs::remove_all(path_, error);
    TORCH_CHECK(!error, "cannot remove the old ", path_, ": ", error.message());
    make_durable_folder(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;  // a leftover is removed by the next keep_latest
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }

  void publish_as(const std::string& name) {
    publish_folder(path_, name);
    path_.clear();
  }

 private:
  std::string path_;
};

void check_save(const TrainState& state, const SaveOptions& options) {
  TORCH_CHECK(state.step >= 0, "checkpoint: step: got ", state.step, ", expected >= 0");
  TORCH_CHECK(options.model_only || !options.export_dtype.has_value(), "checkpoint of step ",
              state.step, ": export_dtype ", *options.export_dtype,
              " needs model_only: a run cannot go on from rounded weights");
  TORCH_CHECK(!options.export_dtype || at::isFloatingType(*options.export_dtype),
              "checkpoint of step ", state.step, ": export_dtype: got ", *options.export_dtype,
              ", expected a floating-point dtype");
}

bool is_leftover(const std::string& name) {
  return name.starts_with(kStepPrefix) && name.ends_with(kTempSuffix) &&
         std::isdigit(static_cast<unsigned char>(name[kStepPrefix.size()])) != 0;
}

void remove_folder(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  TORCH_CHECK(!error, "cannot remove ", path, ": ", error.message());
}

std::vector<std::string> names_in(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  TORCH_CHECK(!error, "cannot read folder ", folder, ": ", error.message());
  return names;
}

std::string list_of(const std::vector<int64_t>& steps) {
  std::string text;
  for (const int64_t step : steps) text += (text.empty() ? "" : ", ") + std::to_string(step);
  return text;
}

}  // namespace

void save_checkpoint(const std::string& folder, const CheckpointTensors& tensors,
                     const TrainState& state, const SaveOptions& options) {
  check_save(state, options);
  const std::string path = step_folder(folder, state.step);
  make_durable_folder(folder);
  TemporaryFolder temporary(path + std::string(kTempSuffix));
  Manifest manifest{.state = state, .model_description = options.model_description, .files = {}};
  // With this key transformers opens the file as PyTorch's.
  const std::map<std::string, std::string> metadata = {{"format", "pt"}};
  manifest.files[kModelFile] =
      write_safetensors(in_folder(temporary.path(), kModelFile), tensors.model,
                        {.metadata = metadata, .floating_dtype = options.export_dtype});
  if (!options.model_only) {
    manifest.files[kOptimizerFile] = write_safetensors(in_folder(temporary.path(), kOptimizerFile),
                                                       tensors.optimizer, {.metadata = metadata});
  }
  write_manifest(temporary.path(), manifest);
  temporary.publish_as(path);
}

std::vector<int64_t> checkpoint_steps(const std::string& folder) {
  std::vector<int64_t> steps;
  if (!fs::exists(folder)) return steps;
  for (const std::string& name : names_in(folder)) {
    const std::optional<int64_t> step = step_of(name);
    if (step.has_value() && is_complete(in_folder(folder, name))) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<int64_t> latest_step(const std::string& folder) {
  const std::vector<int64_t> steps = checkpoint_steps(folder);
  return steps.empty() ? std::nullopt : std::optional(steps.back());
}

TrainState load_checkpoint(const std::string& folder, int64_t step,
                           const CheckpointTensors& tensors) {
  const std::string path = step_folder(folder, step);
  if (!fs::exists(path)) {
    const std::vector<int64_t> steps = checkpoint_steps(folder);
    TORCH_CHECK(false, "no checkpoint of step ", step, " in ", folder,
                "; complete ones: ", steps.empty() ? "none" : list_of(steps));
  }
  const Manifest manifest = read_manifest(path);
  TORCH_CHECK(manifest.state.step == step, path, ": got a checkpoint of step ", manifest.state.step,
              ", expected ", step, " (renamed?)");
  return load_from(path, manifest, tensors);
}

TrainState load_checkpoint_folder(const std::string& path, const CheckpointTensors& tensors) {
  return load_from(path, read_manifest(path), tensors);
}

void keep_latest(const std::string& folder, int64_t k, int64_t just_written) {
  TORCH_CHECK(k >= 0, "keep_latest_k: got ", k, ", expected 0 (all) or more");
  for (const std::string& name : names_in(folder)) {
    if (is_leftover(name)) remove_folder(in_folder(folder, name));
  }
  if (k == 0) return;
  std::vector<int64_t> others = checkpoint_steps(folder);
  std::erase(others, just_written);
  const size_t num_kept = std::min(others.size(), static_cast<size_t>(k) - 1);
  others.resize(others.size() - num_kept);
  for (const int64_t step : others) {
    // Renamed first: a removal that is interrupted leaves no checkpoint without some of its files.
    const std::string doomed = step_folder(folder, step) + std::string(kTempSuffix);
    publish_folder(step_folder(folder, step), doomed);
    remove_folder(doomed);
  }
}

}  // namespace tessera
