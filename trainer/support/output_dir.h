// The dump folder, and writing files in it so that a full disk or a crash is noticed and leaves no
// half-written file.
//
// Every error is a c10::Error that names job.dump_folder, the path and the system's reason.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tessera {

// To be called before any work is done. Creates `dump_folder` (parents included), writes, syncs and
// removes a probe file in it, and checks that its file system has `min_free_bytes` left for this
// user.
void prepare_output_dir(const std::string& dump_folder, int64_t min_free_bytes);

// `path` holds the old content or all of `content`, whatever happens (data/files/durable_file.h).
// Nothing is left behind on failure.
void write_file_atomically(const std::string& path, std::string_view content);

// A file that grows by whole records. Made if it is missing.
class AppendFile {
 public:
  explicit AppendFile(std::string path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // One write: when it returns, the system has all of `text`, so a crash of this process loses
  // nothing.
  void append(std::string_view text);

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace tessera
