// What the files of a checkpoint hold, and the JSON that says so. Internal to trainer/checkpoint/.
//
// Each rank that writes says what it wrote; merged, that is the whole checkpoint: a list of tensors
// with the rectangles (parts) they are cut into, and where each lies. Nothing here supposes that
// every rank has every name.
//
//   CheckpointContents all;
//   for (const std::string& text : texts_of_ranks) merge(all, contents_from_text(text));
//   check_parts(all.model);
//   write_manifest(folder, {.state = state, .model_description = "...", .contents = all});
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/files/durable_file.h"
#include "data/files/rectangle.h"
#include "trainer/checkpoint/checkpoint.h"

namespace tessera {

// A rectangle of a tensor and the file it lies in.
struct SavedPart {
  std::string file;  // in the checkpoint's folder; its tensor has the same name
  Rectangle rectangle;
  bool operator==(const SavedPart&) const = default;
};

struct SavedTensor {
  c10::ScalarType dtype = c10::ScalarType::Float;  // as saved
  std::vector<int64_t> shape;                      // of the whole
  std::vector<SavedPart> parts;
  bool operator==(const SavedTensor&) const = default;
};

using SavedTensors = std::map<std::string, SavedTensor>;

struct CheckpointContents {
  std::map<std::string, FileDigest> files = {};  // by name in the checkpoint's folder
  SavedTensors model = {};
  SavedTensors optimizer = {};
  bool operator==(const CheckpointContents&) const = default;
};

// Adds what another rank wrote. Throws c10::Error naming the tensor when the ranks do not agree on
// a shape or dtype, and the file when both wrote one of the same name.
void merge(CheckpointContents& into, const CheckpointContents& from);

// Throws c10::Error naming the tensor whose parts overlap or leave something out.
void check_parts(const SavedTensors& tensors);

// The contents as text, to be sent to another rank; contents_from_text returns what to_text got.
std::string to_text(const CheckpointContents& contents);
CheckpointContents contents_from_text(const std::string& text);

// All that train_state.json says.
struct Manifest {
  TrainState state;
  std::string model_description;
  CheckpointContents contents;
};

// The path of a checkpoint: <folder>/step-<step>.
inline constexpr std::string_view kCheckpointStepPrefix = "step-";
std::string checkpoint_folder(const std::string& folder, int64_t step);

// Throws c10::Error naming the path unless the file is there with the size that was written.
void check_file_size(const std::string& path, const FileDigest& expected);

inline constexpr const char* kManifestFile = "train_state.json";

// Writes train_state.json into `folder`, durably. Format 1, of a single writer, lists the files
// alone, which hold whole tensors; format 2 lists the parts of every tensor as well.
void write_manifest(const std::string& folder, const Manifest& manifest);

// Reads either format. The tensors of format 1 stay empty, because the files' headers tell them.
// Throws c10::Error when the file is missing, changed after it was written, or of another format.
Manifest read_manifest(const std::string& folder);

// The name of a file of writer `index` (from 0) of `num_writers`: "model.safetensors" of a single
// writer, else e.g. "model-00001-of-00004.safetensors". stem: kModelStem or kOptimizerStem.
std::string checkpoint_file(const std::string& stem, int64_t index, int64_t num_writers);
inline constexpr const char* kModelStem = "model";
inline constexpr const char* kOptimizerStem = "optimizer";

}  // namespace tessera
