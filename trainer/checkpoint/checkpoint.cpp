#include "trainer/checkpoint/checkpoint.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/files/durable_file.h"
#include "data/files/safetensors.h"
#include "parallel/comm/together.h"
#include "trainer/checkpoint/checkpoint_contents.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = kCheckpointStepPrefix;
constexpr std::string_view kTempSuffix = ".tmp";

std::string in_folder(const std::string& folder, const std::string& name) {
  return (fs::path(folder) / name).string();
}

bool is_complete(const std::string& folder) {
  try {
    for (const auto& [name, digest] : read_manifest(folder).contents.files) {
      check_file_size(in_folder(folder, name), digest);
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

// ------------------------------------------------------------------------------- a rank's files

// The metadata that says where each part stands, as PyTorch's distributed checkpoints in this
// format have it (torch/distributed/checkpoint/_hf_utils.py).
std::string sharding_info(const std::vector<NamedShard>& parts) {
  nlohmann::json info = nlohmann::json::object();
  for (const NamedShard& part : parts) info[part.name] = {{"saved_offsets", part.where.offset}};
  return info.dump();
}

struct Writer {
  std::string folder;
  int64_t index = 0;
  int64_t num_writers = 1;
};

// Writes the counted parts to one file and notes them.
SavedTensors write_file(const Writer& writer, const std::string& stem,
                        const std::vector<NamedShard>& tensors,
                        std::optional<at::ScalarType> floating_dtype,
                        std::map<std::string, FileDigest>& files) {
  const std::string file = checkpoint_file(stem, writer.index, writer.num_writers);
  std::vector<NamedShard> parts;
  NamedTensors values;
  SavedTensors saved;
  for (const NamedShard& part : tensors) {
    if (!part.is_counted || part.tensor.numel() == 0) continue;
    parts.push_back(part);
    values.emplace_back(part.name, part.tensor);
    const bool is_cast = floating_dtype && part.tensor.is_floating_point();
    saved[part.name] = {.dtype = is_cast ? *floating_dtype : part.tensor.scalar_type(),
                        .shape = part.whole_shape,
                        .parts = {{.file = file, .rectangle = part.where}}};
  }
  // With this key transformers opens the file as PyTorch's.
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (writer.num_writers > 1) {
    metadata["DCP_VERSION"] = "1.0";
    metadata["DCP_SHARDING_INFO"] = sharding_info(parts);
  }
  files[file] = write_safetensors(in_folder(writer.folder, file), values,
                                  {.metadata = metadata, .floating_dtype = floating_dtype});
  return saved;
}

// Writes this rank's files. Where several replicas hold the same parts, the ranks of the first
// replica write them.
CheckpointContents write_parts(const std::string& folder, const CheckpointTensors& tensors,
                               const SaveOptions& options, const DeviceMesh& mesh) {
  CheckpointContents written;
  if (mesh.replicate().rank() != 0) return written;
  const Writer writer{
      .folder = folder, .index = mesh.model().rank(), .num_writers = mesh.model().size()};
  written.model =
      write_file(writer, kModelStem, tensors.model, options.export_dtype, written.files);
  if (!options.model_only) {
    written.optimizer =
        write_file(writer, kOptimizerStem, tensors.optimizer, std::nullopt, written.files);
  }
  return written;
}

}  // namespace

void save_checkpoint(const std::string& folder, const CheckpointTensors& tensors,
                     const TrainState& state, const SaveOptions& options, const DeviceMesh& mesh) {
  const std::string path = checkpoint_folder(folder, state.step);
  const std::string temporary_path = path + std::string(kTempSuffix);
  const bool is_first = mesh.world().rank() == 0;
  std::optional<TemporaryFolder> temporary;  // made by rank 0 for all ranks
  run_together(mesh.all(), [&] {
    check_save(state, options);
    if (is_first) {
      make_durable_folder(folder);
      temporary.emplace(temporary_path);
    }
    return "";
  });
  const auto write = [&] { return to_text(write_parts(temporary_path, tensors, options, mesh)); };
  run_together(mesh.all(), write, [&](const std::vector<std::string>& written) {
    Manifest manifest{
        .state = state, .model_description = options.model_description, .contents = {}};
    for (const std::string& text : written) merge(manifest.contents, contents_from_text(text));
    check_parts(manifest.contents.model);
    check_parts(manifest.contents.optimizer);
    write_manifest(temporary->path(), manifest);
    temporary->publish_as(path);
    return "";
  });
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
    const std::string doomed = checkpoint_folder(folder, step) + std::string(kTempSuffix);
    publish_folder(checkpoint_folder(folder, step), doomed);
    remove_folder(doomed);
  }
}

}  // namespace tessera
