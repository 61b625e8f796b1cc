// Files and folders that appear whole or not at all, whenever the machine stops.
//
//   DurableFile file("run/model.safetensors");   // opens run/model.safetensors.tmp
//   file.write(bytes, num_bytes);
//   FileDigest digest = file.commit();           // on disk and renamed; without commit() nothing
//   is left behind
//
// Every function throws c10::Error with the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tessera {

struct FileDigest {
  uint64_t num_bytes = 0;
  uint32_t crc32c = 0;
  bool operator==(const FileDigest&) const = default;
};

class DurableFile {
 public:
  explicit DurableFile(std::string path);
  ~DurableFile();  // removes the temporary file unless committed
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(const void* data, size_t num_bytes);

  // Flushes the content, renames the file to its final name (replacing an older one) and flushes
  // the folder.
  FileDigest commit();

 private:
  std::string path_;
  std::string temp_path_;
  int fd_ = -1;
  FileDigest digest_;
};

FileDigest write_durable_file(const std::string& path, std::string_view content);

// Size and checksum of a file as it is now.
FileDigest digest_of_file(const std::string& path);

// Makes a folder and those above it that are missing.
void make_durable_folder(const std::string& folder);

// Makes renames and removals inside the folder durable.
void sync_folder(const std::string& folder);

// Exchanges two folders in one step; returns 0, or the error number when it cannot.
using ExchangeFolders = std::function<int(const std::string& a, const std::string& b)>;
int exchange_folders(const std::string& a, const std::string& b);

// Renames folder `from`, whose files are on disk already, to `to`, and makes that durable. A folder
// `to` that exists is replaced: both are exchanged and the old one is removed. On file systems that
// cannot exchange (NFS, some cluster file systems) the old one is moved out of the way first, so
// that a crash between two renames leaves neither name `to`.
void publish_folder(const std::string& from, const std::string& to,
                    const ExchangeFolders& exchange = exchange_folders);

}  // namespace tessera
