// A small, quick training job for tests of the trainer and of the command line.
//
//   const JobFixture job;
//   const LoadedConfig loaded = load_config(job.config(), {"--training.steps", "2"});
#pragma once

#include <string>
#include <vector>

#include "tests/support/temp_dir.h"

namespace tessera::testing {

// A temporary folder with a data set of twelve short text files and a job that trains the debug
// model on it in tiny steps. The folder is removed with the object.
class JobFixture {
 public:
  JobFixture() {
    for (int i = 0; i < 12; ++i) {
      std::string text;
      for (int line = 0; line <= i; ++line)
        text += "int value_" + std::to_string(line) + " = " + std::to_string(i) + ";\n";
      folder_.write("data/file_" + std::to_string(10 + i) + ".cpp", text);
    }
    config_ = folder_.write("job.toml",
                            "[model]\nname = \"llama3\"\nflavor = \"debugmodel\"\n"
                            "[training]\ndataset = \"text_files\"\ndataset_path = \"" +
                                dataset() +
                                "\"\n"
                                "local_batch_size = 2\nseq_len = 48\nsteps = 4\nseed = "
                                "7\nmixed_precision_param = \"float32\"\n"
                                "[lr_scheduler]\nwarmup_steps = 1\n"
                                "[activation_checkpoint]\nmode = \"none\"\n"
                                "[job]\ndump_folder = \"" +
                                dump_folder() + "\"\n");
  }

  const std::string& config() const { return config_; }
  std::string dataset() const { return path("data"); }
  std::string dump_folder() const { return path("out"); }
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  const TempDir& folder() const { return folder_; }

 private:
  TempDir folder_;
  std::string config_;
};

}  // namespace tessera::testing
