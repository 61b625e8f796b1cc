#include "trainer/checkpoint/checkpoint.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <random>

#include "data/files/crc32c.h"
#include "data/files/safetensors.h"
#include "tests/support/errors.h"
#include "tests/support/files.h"
#include "tests/support/same_bits.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::content_of;
using testing::message_of;
using testing::same_bits;
using testing::TempDir;

// Random bits: with infinities, NaNs of any payload, denormals and -0 among them.
at::Tensor random_bits(at::IntArrayRef sizes, at::ScalarType dtype, std::mt19937& random) {
  at::Tensor tensor = at::empty(sizes, dtype);
  auto* bytes = static_cast<unsigned char*>(tensor.mutable_data_ptr());
  for (size_t i = 0; i < tensor.nbytes(); ++i) bytes[i] = static_cast<unsigned char>(random());
  return tensor;
}

bool all_same_bits(const std::vector<NamedShard>& a, const std::vector<NamedShard>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.name == y.name && same_bits(x.tensor, y.tensor);
  });
}

CheckpointTensors random_tensors(at::ScalarType dtype, unsigned seed) {
  std::mt19937 random(seed);
  CheckpointTensors tensors;
  for (const auto& [name, sizes] :
       std::vector<std::pair<std::string, std::vector<int64_t>>>{{"tok_embeddings.weight", {7, 4}},
                                                                 {"layers.0.wq.weight", {4, 4}},
                                                                 {"norm.weight", {5}}}) {
    tensors.model.push_back(whole_shard(name, random_bits(sizes, dtype, random)));
    tensors.optimizer.push_back(whole_shard("exp_avg/" + name, random_bits(sizes, dtype, random)));
    tensors.optimizer.push_back(
        whole_shard("exp_avg_sq/" + name, random_bits(sizes, dtype, random)));
  }
  tensors.optimizer.push_back(whole_shard("step", at::full({}, 20.0, at::kFloat)));
  return tensors;
}

CheckpointTensors zeros_like(const CheckpointTensors& tensors) {
  CheckpointTensors zeros;
  for (const NamedShard& part : tensors.model) {
    zeros.model.push_back(whole_shard(part.name, at::zeros_like(part.tensor)));
  }
  for (const NamedShard& part : tensors.optimizer) {
    zeros.optimizer.push_back(whole_shard(part.name, at::zeros_like(part.tensor)));
  }
  return zeros;
}

TrainState state_of_step(int64_t step) {
  return {.step = step,
          .num_tokens = step * 123456789012,
          .loader = {.epoch = 2, .document = 17, .token = 4096}};
}

class Checkpoint : public ::testing::Test {
 protected:
  std::string folder() const { return (dir_.path() / "out" / "checkpoint").string(); }
  fs::path path(int64_t step, const std::string& file = "") const {
    return fs::path(folder()) / ("step-" + std::to_string(step)) / file;
  }
  void save(int64_t step, const SaveOptions& options = {}) const {
    save_checkpoint(folder(), tensors_, state_of_step(step), options);
  }
  // The tensors that were to be loaded into are as they were.
  void expect_load_error(int64_t step, const CheckpointTensors& target,
                         std::initializer_list<std::string> parts) const {
    const CheckpointTensors before = {.model = clone(target.model),
                                      .optimizer = clone(target.optimizer)};
    testing::expect_error([&] { load_checkpoint(folder(), step, target); }, parts, __FILE__,
                          __LINE__);
    EXPECT_TRUE(all_same_bits(before.model, target.model));
    EXPECT_TRUE(all_same_bits(before.optimizer, target.optimizer));
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder())) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  TempDir dir_;
  CheckpointTensors tensors_ = random_tensors(at::kFloat, 1);

 private:
  static std::vector<NamedShard> clone(std::vector<NamedShard> parts) {
    for (NamedShard& part : parts) part.tensor = part.tensor.clone();
    return parts;
  }
};

TEST_F(Checkpoint, RoundTripKeepsEveryBit) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    const CheckpointTensors saved = random_tensors(dtype, 5);
    const CheckpointTensors loaded = zeros_like(saved);
    save_checkpoint(folder(), saved, state_of_step(20));
    EXPECT_EQ(load_checkpoint(folder(), 20, loaded), state_of_step(20));
    EXPECT_TRUE(all_same_bits(saved.model, loaded.model)) << dtype;
    EXPECT_TRUE(all_same_bits(saved.optimizer, loaded.optimizer)) << dtype;
    EXPECT_EQ(load_checkpoint_folder(path(20).string(), loaded), state_of_step(20));
  }
}

TEST_F(Checkpoint, LoadsIntoViewsAndLeaves) {
  save(20);
  const at::Tensor flat = at::zeros({28 + 16 + 5});
  CheckpointTensors loaded = {.model = {}, .optimizer = {}};
  int64_t offset = 0;
  for (const NamedShard& part : tensors_.model) {
    const at::Tensor& tensor = part.tensor;
    loaded.model.push_back(
        whole_shard(part.name, flat.narrow(0, offset, tensor.numel()).view(tensor.sizes())));
    offset += tensor.numel();
  }
  loaded.model[2].tensor = at::zeros({5}).set_requires_grad(true);
  load_checkpoint(folder(), 20, loaded);
  EXPECT_TRUE(all_same_bits(loaded.model, tensors_.model));
  EXPECT_TRUE(same_bits(flat.narrow(0, 28, 16).view({4, 4}), tensors_.model[1].tensor));
  EXPECT_TRUE(loaded.model[2].tensor.requires_grad());
}

TEST_F(Checkpoint, FindsCompleteStepsOnly) {
  EXPECT_EQ(latest_step(folder()), std::nullopt);
  fs::create_directories(folder());
  EXPECT_EQ(latest_step(folder()), std::nullopt);
  for (const int64_t step : {9, 100, 20}) save(step);
  EXPECT_EQ(checkpoint_steps(folder()), (std::vector<int64_t>{9, 20, 100}));

  // Folders that a crash, or a person, may leave.
  fs::copy(path(100), folder() + "/step-200.tmp");
  fs::copy(path(100), folder() + "/step-0300");
  fs::copy(path(100), folder() + "/step--1");
  fs::copy(path(100), folder() + "/step-99999999999999999999");
  fs::copy(path(100), folder() + "/best");
  fs::create_directory(path(400));
  fs::copy(path(100), path(500));
  fs::resize_file(path(500, "model.safetensors"), 100);
  fs::copy(path(100), path(600));
  fs::remove(path(600, "optimizer.safetensors"));
  dir_.write("out/checkpoint/step-700", "a file");
  EXPECT_EQ(checkpoint_steps(folder()), (std::vector<int64_t>{9, 20, 100}));
  EXPECT_EQ(latest_step(folder()), 100);
}

TEST_F(Checkpoint, AMissingStepListsThoseThereAre) {
  expect_load_error(5, zeros_like(tensors_), {"no checkpoint of step 5", folder(), "none"});
  save(9);
  save(20);
  expect_load_error(5, zeros_like(tensors_), {"no checkpoint of step 5", folder(), "9, 20"});
  EXPECT_ERROR(load_checkpoint_folder(folder(), zeros_like(tensors_)), "no checkpoint in", folder(),
               "train_state.json");
  fs::rename(path(20), path(30));
  expect_load_error(30, zeros_like(tensors_), {"step-30", "step 20", "expected 30"});
}

TEST_F(Checkpoint, ReplacesTheSameStepAndIgnoresACrash) {
  save(20);
  // A crash while step 20 was saved again: its files are there, the rename is not.
  fs::copy(path(20), folder() + "/step-20.tmp");
  fs::resize_file(folder() + "/step-20.tmp/model.safetensors", 10);
  CheckpointTensors loaded = zeros_like(tensors_);
  EXPECT_EQ(load_checkpoint(folder(), 20, loaded), state_of_step(20));
  EXPECT_TRUE(all_same_bits(loaded.model, tensors_.model));

  tensors_ = random_tensors(at::kFloat, 2);
  save(20);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-20"}));
  load_checkpoint(folder(), 20, loaded);
  EXPECT_TRUE(all_same_bits(loaded.model, tensors_.model));
}

TEST_F(Checkpoint, KeepsTheNewest) {
  for (const int64_t step : {10, 20, 30, 40}) save(step);
  fs::copy(path(40), folder() + "/step-50.tmp");
  fs::copy(path(40), folder() + "/step-50.tmp.old.tmp");
  dir_.write("out/checkpoint/notes.tmp", "not ours");
  dir_.write("out/checkpoint/step-notes.tmp", "not ours");
  keep_latest(folder(), 0, 40);
  EXPECT_EQ(names(), (std::vector<std::string>{"notes.tmp", "step-10", "step-20", "step-30",
                                               "step-40", "step-notes.tmp"}));
  keep_latest(folder(), 3, 40);
  EXPECT_EQ(checkpoint_steps(folder()), (std::vector<int64_t>{20, 30, 40}));
  // A run that went on from step 20 has written step 25: it outlives later ones of the run before.
  save(25);
  keep_latest(folder(), 2, 25);
  EXPECT_EQ(checkpoint_steps(folder()), (std::vector<int64_t>{25, 40}));
  keep_latest(folder(), 1, 25);
  EXPECT_EQ(checkpoint_steps(folder()), (std::vector<int64_t>{25}));
  EXPECT_EQ(names(), (std::vector<std::string>{"notes.tmp", "step-25", "step-notes.tmp"}));
  EXPECT_ERROR(keep_latest(folder(), -1, 25), "keep_latest_k", "-1");
  EXPECT_ERROR(keep_latest(folder() + "/no", 1, 25), "cannot read folder", folder() + "/no");
}

TEST_F(Checkpoint, ModelOnlyIsForUsingTheModel) {
  save(20, {.model_only = true});
  EXPECT_FALSE(fs::exists(path(20, "optimizer.safetensors")));
  EXPECT_EQ(latest_step(folder()), 20);
  expect_load_error(20, zeros_like(tensors_), {"step-20", "model-only", "no optimizer state"});
  CheckpointTensors loaded = zeros_like(tensors_);
  loaded.optimizer.clear();
  EXPECT_EQ(load_checkpoint(folder(), 20, loaded), state_of_step(20));
  EXPECT_TRUE(all_same_bits(loaded.model, tensors_.model));
}

TEST_F(Checkpoint, ExportsTheModelInAnotherDtype) {
  save(20, {.model_only = true, .export_dtype = at::kBFloat16});
  const SafetensorsFile file(path(20, "model.safetensors").string());
  CheckpointTensors loaded = zeros_like(tensors_);
  loaded.optimizer.clear();
  load_checkpoint(folder(), 20, loaded);
  for (size_t i = 0; i < loaded.model.size(); ++i) {
    const at::Tensor& tensor = tensors_.model[i].tensor;
    EXPECT_TRUE(same_bits(file.get(tensors_.model[i].name), tensor.to(at::kBFloat16)));
    EXPECT_TRUE(same_bits(loaded.model[i].tensor, tensor.to(at::kBFloat16).to(at::kFloat)));
  }
  EXPECT_ERROR(save(21, {.export_dtype = at::kHalf}), "export_dtype", "Half", "model_only");
  EXPECT_ERROR(save(21, {.model_only = true, .export_dtype = at::kLong}), "export_dtype", "Long");
  EXPECT_ERROR(save(-1), "step", "-1");
}

TEST_F(Checkpoint, NamesAllTensorsThatDoNotFit) {
  save(20);
  CheckpointTensors target = zeros_like(tensors_);
  target.model[0].name = "other.weight";
  target.model[1] = whole_shard("layers.0.wq.weight", at::zeros({4, 5}));
  target.model[2].tensor = at::zeros({5}, at::kDouble);
  expect_load_error(
      20, target,
      {"model.safetensors", "missing (1): other.weight", "unexpected (1): tok_embeddings.weight",
       "layers.0.wq.weight (got Float [4, 4], expected Float [4, 5])",
       "norm.weight (got Float [5], expected Double [5])"});
  target = zeros_like(tensors_);
  target.optimizer.pop_back();
  expect_load_error(20, target, {"optimizer.safetensors", "unexpected (1): step"});
  target = zeros_like(tensors_);
  target.model[0].tensor = at::empty({7, 4}, at::TensorOptions(at::kMeta));
  EXPECT_ERROR(load_checkpoint(folder(), 20, target), "tok_embeddings.weight", "materialise");
}

TEST_F(Checkpoint, DetectsTruncationOfEveryFile) {
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "train_state.json"}) {
    save(20);
    const uint64_t size = fs::file_size(path(20, name));
    for (const uint64_t shorter : {size - 2, size / 2, uint64_t{0}}) {
      fs::resize_file(path(20, name), shorter);
      expect_load_error(20, zeros_like(tensors_), {path(20, name).string()});
      EXPECT_EQ(latest_step(folder()), std::nullopt);
    }
    fs::remove(path(20, name));
    expect_load_error(20, zeros_like(tensors_), {name});
    EXPECT_EQ(latest_step(folder()), std::nullopt);
  }
}

TEST_F(Checkpoint, DetectsAFlippedBitInEveryByte) {
  save(20);
  std::mt19937 random(3);
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "train_state.json"}) {
    const std::string whole = content_of(path(20, name));
    std::fstream file(path(20, name), std::ios::binary | std::ios::in | std::ios::out);
    const auto put = [&file](size_t at, char byte) {
      file.seekp(static_cast<std::streamoff>(at));
      file.put(byte);
      file.flush();
    };
    for (size_t at = 0; at < whole.size(); ++at) {
      put(at, static_cast<char>(whole[at] ^ (1 << random() % 8)));
      const std::string message =
          message_of([&] { load_checkpoint(folder(), 20, zeros_like(tensors_)); });
      EXPECT_NE(message.find(name), std::string::npos) << name << " byte " << at << ": " << message;
      put(at, whole[at]);
    }
  }
  EXPECT_EQ(load_checkpoint(folder(), 20, zeros_like(tensors_)), state_of_step(20));
}

TEST_F(Checkpoint, RefusesAnotherFormatVersion) {
  save(20);
  const fs::path file = path(20, "train_state.json");
  std::string text = content_of(file);
  text.replace(text.find("\"format_version\": 1"), 19, "\"format_version\": 3");
  std::ofstream(file) << text;
  expect_load_error(20, zeros_like(tensors_), {"train_state.json", "CRC-32C"});
  const std::string later = R"({"format_version":3})";
  std::ofstream(file) << R"({"checkpoint":)" << later << R"(,"crc32c":)"
                      << crc32c(later.data(), later.size()) << "}";
  expect_load_error(20, zeros_like(tensors_),
                    {"train_state.json", "format_version", "got 3", "expected 1 or 2"});
}

TEST_F(Checkpoint, AFailedSaveLeavesNothingAndKeepsTheOldOne) {
  save(20);
  CheckpointTensors bad = tensors_;
  bad.optimizer.push_back(whole_shard("complex", at::zeros({1}, at::kComplexDouble)));
  EXPECT_ERROR(save_checkpoint(folder(), bad, state_of_step(20)), "optimizer.safetensors",
               "complex", "ComplexDouble");
  EXPECT_EQ(names(), (std::vector<std::string>{"step-20"}));
  EXPECT_EQ(load_checkpoint(folder(), 20, zeros_like(tensors_)), state_of_step(20));
}

// The system's limit on the size of a file, for as long as the object lives: writes beyond it fail
// as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t num_bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit = {.rlim_cur = num_bytes, .rlim_max = old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit old_;
};

TEST_F(Checkpoint, AWriteThatFailsHalfwayLeavesNothingAndKeepsTheOldOne) {
  save(20);
  CheckpointTensors large = tensors_;
  large.optimizer.push_back(whole_shard("large", at::zeros({1 << 16})));
  {
    const FileSizeLimit limit(1 << 17);
    EXPECT_ERROR(save_checkpoint(folder(), large, state_of_step(20)), "cannot write",
                 "step-20.tmp/optimizer.safetensors", "File too large");
    EXPECT_ERROR(save_checkpoint(folder(), large, state_of_step(30)), "cannot write",
                 "step-30.tmp/optimizer.safetensors", "File too large");
  }
  EXPECT_EQ(names(), (std::vector<std::string>{"step-20"}));
  EXPECT_EQ(load_checkpoint(folder(), 20, zeros_like(tensors_)), state_of_step(20));
}

TEST_F(Checkpoint, AFolderThatCannotBeMadeIsNamed) {
  dir_.write("out", "a file");
  EXPECT_ERROR(save(20), "cannot create folder", folder().substr(0, folder().rfind('/')));
  EXPECT_ERROR(save_checkpoint("/proc/tessera/checkpoint", tensors_, state_of_step(1)),
               "cannot create folder", "/proc/tessera");
}

}  // namespace
}  // namespace tessera
