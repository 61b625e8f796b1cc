// Files and folders that appear whole or not at all, whenever the machine stops.
//
//   DurableFile file("run/model.safetensors");   // opens run/model.safetensors.tmp
//   file.write(bytes, num_bytes);
//   FileDigest digest = file.commit();           // on disk and renamed
//
// Without commit() nothing is left behind unless the process dies, which leaves the .tmp file.
//
// Every function but exchange_folders throws c10::Error with the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tessera {

// The size and CRC-32C (crc32c.h) of a file's content.
struct FileDigest {
  uint64_t num_bytes = 0;
  uint32_t crc32c = 0;
  bool operator==(const FileDigest&) const = default;
};

class DurableFile {
 public:
  // Opens `path`.tmp for writing and empties it if it exists; the folder must exist.
  explicit DurableFile(std::string path);
  ~DurableFile();  // removes the temporary file unless committed
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  // Appends. Not to be called after commit().
  void write(const void* data, size_t num_bytes);

  // Flushes the content, renames the file to its final name (replacing an older one) and flushes
  // the folder. Called at most once. Returns the digest of everything that was written.
  FileDigest commit();

 private:
  std::string path_;
  std::string temp_path_;
  int fd_ = -1;
  FileDigest digest_;
};

// Writes a whole file as DurableFile does.
FileDigest write_durable_file(const std::string& path, std::string_view content);

// Reads a file to its end and returns its size and checksum.
FileDigest digest_of_file(const std::string& path);

// Makes a folder and those above it that are missing.
void make_durable_folder(const std::string& folder);

// Makes renames and removals inside the folder durable.
void sync_folder(const std::string& folder);

// Exchanges two folders in one step; returns 0, or the errno value when the system cannot.
using ExchangeFolders = std::function<int(const std::string& a, const std::string& b)>;
int exchange_folders(const std::string& a, const std::string& b);

// Renames folder `from`, whose files are on disk already, to `to`, and makes that durable. A folder
// `to` that exists is replaced: both are exchanged and the old one is removed. On file systems that
// cannot exchange (NFS, some cluster file systems) the old one is moved to `from`.old.tmp first, so
// that a crash between the two renames leaves no folder `to`. `exchange` is for tests.
void publish_folder(const std::string& from, const std::string& to,
                    const ExchangeFolders& exchange = exchange_folders);

}  // namespace tessera
