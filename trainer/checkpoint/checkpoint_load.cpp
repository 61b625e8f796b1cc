// The part of trainer/checkpoint/checkpoint.h that loads.
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "data/files/safetensors.h"
#include "models/hf/tensor_mismatches.h"
#include "parallel/comm/together.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/checkpoint_contents.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string in_folder(const std::string& folder, const std::string& name) {
  return (fs::path(folder) / name).string();
}

// ------------------------------------------------------------------------------------- verifying

bool is_of_optimizer(const std::string& file) { return file.starts_with(kOptimizerStem); }

bool has_optimizer(const CheckpointContents& contents) {
  return std::any_of(contents.files.begin(), contents.files.end(),
                     [](const auto& file) { return is_of_optimizer(file.first); });
}

// Checks the sizes of all files that are needed, and the content of this rank's share of them.
void check_files(const std::string& path, const CheckpointContents& contents, bool with_optimizer,
                 const ProcessGroup& ranks) {
  int64_t index = 0;
  for (const auto& [name, digest] : contents.files) {
    if (is_of_optimizer(name) && !with_optimizer) continue;
    const std::string file = in_folder(path, name);
    check_file_size(file, digest);
    if (index++ % ranks.size() != ranks.rank()) continue;
    const FileDigest got = digest_of_file(file);
    TORCH_CHECK(got == digest, file, ": got CRC-32C ", got.crc32c, ", expected ", digest.crc32c,
                " (damaged after it was written)");
  }
}

// The tensors of a file that a single rank wrote, each as one part that is the whole.
SavedTensors tensors_of(const SafetensorsFile& file, const std::string& name) {
  SavedTensors tensors;
  for (const std::string& tensor : file.names()) {
    const std::vector<int64_t>& shape = file.sizes(tensor);
    tensors[tensor] = {.dtype = file.dtype(tensor),
                       .shape = shape,
                       .parts = {{.file = name, .rectangle = Rectangle::whole(shape)}}};
  }
  return tensors;
}

// ------------------------------------------------------------------- what fits, over all the ranks

// How the names that a rank asks for and those saved differ.
struct Differences {
  std::vector<std::string> missing;
  std::vector<std::vector<std::string>> different;  // name, got, expected
  std::vector<std::string> not_asked;               // by this rank
};

std::string description_of(at::ScalarType dtype, at::IntArrayRef sizes) {
  std::ostringstream text;
  text << dtype << " " << sizes;
  return text.str();
}

Differences compare(const SavedTensors& saved, const std::vector<NamedShard>& asked,
                    bool same_dtype) {
  Differences differences;
  std::set<std::string> names;
  for (const NamedShard& part : asked) {
    TORCH_CHECK(part.tensor.defined() && !part.tensor.is_meta(), "tensor ", part.name,
                " to load into has no storage: materialise the model first");
    names.insert(part.name);
    const auto found = saved.find(part.name);
    if (found == saved.end()) {
      differences.missing.push_back(part.name);
    } else if (part.whole_shape != found->second.shape ||
               (same_dtype && part.tensor.scalar_type() != found->second.dtype)) {
      differences.different.push_back(
          {part.name, description_of(found->second.dtype, found->second.shape),
           description_of(part.tensor.scalar_type(), part.whole_shape)});
    }
  }
  for (const auto& [name, tensor] : saved) {
    if (!names.contains(name)) differences.not_asked.push_back(name);
  }
  return differences;
}

Json to_json(const Differences& d) {
  return {{"missing", d.missing}, {"different", d.different}, {"not_asked", d.not_asked}};
}

// Throws when the ranks' names do not fit the saved ones. A tensor is missing when one rank lacks
// it, and left over when no rank asks for it.
void check_differences(const std::string& where, const std::vector<Json>& of_ranks) {
  std::set<std::string> missing;
  std::set<std::vector<std::string>> different;
  std::map<std::string, size_t> num_not_asking;
  for (const Json& rank : of_ranks) {
    for (const Json& name : rank.at("missing")) missing.insert(name.get<std::string>());
    for (const Json& entry : rank.at("different")) {
      different.insert(entry.get<std::vector<std::string>>());
    }
    for (const Json& name : rank.at("not_asked")) ++num_not_asking[name.get<std::string>()];
  }
  TensorMismatches mismatches;
  for (const std::string& name : missing) mismatches.add_missing(name);
  for (const auto& entry : different) mismatches.add_different(entry[0], entry[1], entry[2]);
  for (const auto& [name, count] : num_not_asking) {
    if (count == of_ranks.size()) mismatches.add_unexpected(name);
  }
  mismatches.check(where);
}

// ---------------------------------------------------------------------------------------- copying

struct Copy {
  at::Tensor target;  // the part of a tensor that is filled
  const SafetensorsFile* file = nullptr;
  std::string name;
  Rectangle from;  // in the file's tensor
};

class Loader {
 public:
  Loader(std::string path, const CheckpointTensors& tensors, const DeviceMesh& mesh)
      : path_(std::move(path)), tensors_(tensors), mesh_(mesh) {}

  // Verifies and plans; returns what differs. Overwrites nothing.
  std::string prepare(std::optional<int64_t> expected_step);

  // Throws when the texts that prepare() has returned on the ranks name a difference.
  void check(const std::vector<std::string>& differences_of_ranks) const;

  TrainState copy() const;

 private:
  const SafetensorsFile& open(const std::string& name);
  std::string where(const char* stem) const;
  Json plan(const SavedTensors& saved, const std::vector<NamedShard>& asked, bool same_dtype);
  void plan_part(const SavedTensor& saved, const NamedShard& part);

  std::string path_;
  const CheckpointTensors& tensors_;
  const DeviceMesh& mesh_;
  Manifest manifest_;
  std::map<std::string, SafetensorsFile> files_;  // open ones
  std::vector<Copy> copies_;
};

std::string Loader::prepare(std::optional<int64_t> expected_step) {
  manifest_ = read_manifest(path_);
  CheckpointContents& contents = manifest_.contents;
  const int64_t step = manifest_.state.step;
  TORCH_CHECK(!expected_step || step == *expected_step, path_, ": got a checkpoint of step ", step,
              ", expected ", expected_step.value_or(0), " (renamed?)");
  const bool with_optimizer = !tensors_.optimizer.empty();
  TORCH_CHECK(!with_optimizer || has_optimizer(contents), path_,
              ": a model-only checkpoint has no optimizer state; a run can start from it, but not "
              "go on");
  check_files(path_, contents, with_optimizer, mesh_.all());
  const std::string model = checkpoint_file(kModelStem, 0, 1);
  if (contents.files.contains(model)) {  // one rank wrote: the files' headers say it all
    const std::string optimizer = checkpoint_file(kOptimizerStem, 0, 1);
    contents.model = tensors_of(open(model), model);
    if (with_optimizer) contents.optimizer = tensors_of(open(optimizer), optimizer);
  }
  Json differences = {{kModelStem, plan(contents.model, tensors_.model, with_optimizer)}};
  if (with_optimizer) {
    differences[kOptimizerStem] = plan(contents.optimizer, tensors_.optimizer, true);
  }
  return differences.dump();
}

const SafetensorsFile& Loader::open(const std::string& name) {
  const auto found = files_.find(name);
  if (found != files_.end()) return found->second;
  return files_.emplace(name, SafetensorsFile(in_folder(path_, name))).first->second;
}

Json Loader::plan(const SavedTensors& saved, const std::vector<NamedShard>& asked,
                  bool same_dtype) {
  const Differences differences = compare(saved, asked, same_dtype);
  if (!differences.missing.empty() || !differences.different.empty()) return to_json(differences);
  SavedTensors own;
  for (const NamedShard& part : asked) own.insert(*saved.find(part.name));
  check_parts(own);
  for (const NamedShard& part : asked) {
    if (part.tensor.numel() > 0) plan_part(own.at(part.name), part);
  }
  return to_json(differences);
}

void Loader::plan_part(const SavedTensor& saved, const NamedShard& part) {
  const Rectangle& own = part.where;
  check_inside("tensor " + part.name + " to load into", saved.shape, own);
  for (const SavedPart& stored : saved.parts) {
    const std::optional<Rectangle> common = overlap(own, stored.rectangle);
    if (!common) continue;
    const SafetensorsFile& file = open(stored.file);
    TORCH_CHECK(file.contains(part.name) && file.sizes(part.name) == stored.rectangle.shape &&
                    file.dtype(part.name) == saved.dtype,
                file.path(), ": has no ", part.name, " as ",
                description_of(saved.dtype, stored.rectangle.shape), ", which ", kManifestFile,
                " expects");
    Rectangle from = *common;
    for (size_t dim = 0; dim < from.offset.size(); ++dim) {
      from.offset[dim] -= stored.rectangle.offset[dim];
    }
    copies_.push_back({.target = view_of(part.tensor.detach(), own, *common),
                       .file = &file,
                       .name = part.name,
                       .from = std::move(from)});
  }
}

// Names the file of these tensors for messages, or the files when there are several.
std::string Loader::where(const char* stem) const {
  const std::string file = checkpoint_file(stem, 0, 1);
  return manifest_.contents.files.contains(file) ? in_folder(path_, file)
                                                 : path_ + " (" + stem + ")";
}

void Loader::check(const std::vector<std::string>& differences_of_ranks) const {
  for (const char* stem : {kModelStem, kOptimizerStem}) {
    std::vector<Json> of_ranks;
    for (const std::string& text : differences_of_ranks) {
      const Json differences = Json::parse(text);
      if (differences.contains(stem)) of_ranks.push_back(differences.at(stem));
    }
    check_differences(where(stem), of_ranks);
  }
}

TrainState Loader::copy() const {
  const c10::AutoGradMode no_grad(false);
  for (const Copy& copy : copies_) copy.target.copy_(copy.file->get(copy.name, copy.from));
  return manifest_.state;
}

TrainState load_from(const std::string& path, std::optional<int64_t> expected_step,
                     const std::function<void()>& check_first, const CheckpointTensors& tensors,
                     const DeviceMesh& mesh) {
  Loader loader(path, tensors, mesh);
  const auto prepare = [&] {
    check_first();
    return loader.prepare(expected_step);
  };
  run_together(mesh.all(), prepare, [&](const std::vector<std::string>& differences) {
    loader.check(differences);
    return "";
  });
  return loader.copy();
}

std::string list_of(const std::vector<int64_t>& steps) {
  return steps.empty() ? "none" : c10::Join(", ", steps);
}

}  // namespace

TrainState load_checkpoint(const std::string& folder, int64_t step,
                           const CheckpointTensors& tensors, const DeviceMesh& mesh) {
  const std::string path = checkpoint_folder(folder, step);
  const auto check_there = [&] {
    TORCH_CHECK(fs::exists(path), "no checkpoint of step ", step, " in ", folder,
                "; complete ones: ", list_of(checkpoint_steps(folder)));
  };
  return load_from(path, step, check_there, tensors, mesh);
}

TrainState load_checkpoint_folder(const std::string& path, const CheckpointTensors& tensors,
                                  const DeviceMesh& mesh) {
  return load_from(
      path, std::nullopt, [] {}, tensors, mesh);
}

}  // namespace tessera
