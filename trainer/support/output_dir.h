// The dump folder, and writing files in it so that a full disk or a crash is noticed and leaves no
// half-written file.
//
// Every error is a c10::Error that names job.dump_folder, the path and the system's reason.
//
//   prepare_output_dir(dump_folder, expected_bytes);
//   write_file_atomically(dump_folder + "/config.toml", to_toml(config));
//   AppendFile records(dump_folder + "/records.jsonl");
//   records.append("{}\n");
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tessera {

// Proves the folder usable, before any work is done. Creates `dump_folder` (parents included),
// writes, syncs and removes a probe file in it, and throws unless its file system has
// `min_free_bytes` left for this user.
void prepare_output_dir(const std::string& dump_folder, int64_t min_free_bytes);

// Writes `content` to `path`, which holds the old content or all of the new one, whatever happens
// (data/files/durable_file.h). Nothing is left behind on failure.
void write_file_atomically(const std::string& path, std::string_view content);

// A file that grows by whole records.
class AppendFile {
 public:
  // Opens the file, or makes it if it is missing; its folder must exist.
  explicit AppendFile(std::string path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // When this returns, the system has all of `text`, so a crash of this process loses nothing. A
  // write that fails (a full disk) may leave a beginning of `text` in the file.
  void append(std::string_view text);

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace tessera
