#include "data/files/durable_file.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "data/files/crc32c.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

// write(2) takes at most 0x7ffff000 bytes at a time.
constexpr size_t kMaxWrite = size_t{1} << 30;
constexpr size_t kReadBytes = size_t{1} << 20;

std::string reason(int error) { return std::generic_category().message(error); }

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags, const char* purpose)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {
    const int error = errno;
    TORCH_CHECK(fd_ >= 0, "cannot ", purpose, " ", path, ": ", reason(error));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

void rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return;
  const int error = errno;
  TORCH_CHECK(false, "cannot rename ", from, " to ", to, ": ", reason(error));
}

void remove_folder(const std::string& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  TORCH_CHECK(!error, "cannot remove ", folder, ": ", error.message());
}

}  // namespace

DurableFile::DurableFile(std::string path) : path_(std::move(path)), temp_path_(path_ + ".tmp") {
  fd_ = ::open(temp_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  const int error = errno;
  TORCH_CHECK(fd_ >= 0, "cannot create ", temp_path_, ": ", reason(error));
}

DurableFile::~DurableFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temp_path_.c_str());
}

void DurableFile::write(const void* data, size_t num_bytes) {
  TORCH_INTERNAL_ASSERT(fd_ >= 0, "write after commit");
  const auto* bytes = static_cast<const char*>(data);
  digest_.crc32c = crc32c(bytes, num_bytes, digest_.crc32c);
  digest_.num_bytes += num_bytes;
  while (num_bytes > 0) {
    const ssize_t written = ::write(fd_, bytes, std::min(num_bytes, kMaxWrite));
    const int error = errno;
    if (written < 0 && error == EINTR) continue;
    TORCH_CHECK(written >= 0, "cannot write ", temp_path_, " at byte ",
                digest_.num_bytes - num_bytes, ": ", reason(error));
    bytes += written;
    num_bytes -= static_cast<size_t>(written);
  }
}

FileDigest DurableFile::commit() {
  TORCH_INTERNAL_ASSERT(fd_ >= 0, "committed twice");
  if (::fsync(fd_) != 0) {
    const int error = errno;
    TORCH_CHECK(false, "cannot flush ", temp_path_, " to disk: ", reason(error));
  }
  rename_path(temp_path_, path_);
  ::close(std::exchange(fd_, -1));  // after fsync a close has nothing left to report
  sync_folder(parent_of(path_));
  return digest_;
}

FileDigest write_durable_file(const std::string& path, std::string_view content) {
  DurableFile file(path);
  file.write(content.data(), content.size());
  return file.commit();
}

FileDigest digest_of_file(const std::string& path) {
  const Descriptor file(path, O_RDONLY, "open");
  std::vector<char> buffer(kReadBytes);
  FileDigest digest;
  while (true) {
    const ssize_t num_read = ::read(file.get(), buffer.data(), buffer.size());
    const int error = errno;
    if (num_read < 0 && error == EINTR) continue;
    TORCH_CHECK(num_read >= 0, "cannot read ", path, ": ", reason(error));
    if (num_read == 0) return digest;
    digest.crc32c = crc32c(buffer.data(), static_cast<size_t>(num_read), digest.crc32c);
    digest.num_bytes += static_cast<uint64_t>(num_read);
  }
}

void make_durable_folder(const std::string& folder) {
  if (fs::is_directory(folder)) return;
  const std::string parent = parent_of(folder);
  if (parent != folder) make_durable_folder(parent);
  std::error_code error;
  fs::create_directory(folder, error);
  TORCH_CHECK(!error, "cannot create folder ", folder, ": ", error.message());
  sync_folder(parent);
}

void sync_folder(const std::string& folder) {
  const Descriptor descriptor(folder, O_RDONLY | O_DIRECTORY, "open folder");
  if (::fsync(descriptor.get()) == 0) return;
  const int error = errno;
  TORCH_CHECK(false, "cannot flush folder ", folder, " to disk: ", reason(error));
}

int exchange_folders(const std::string& a, const std::string& b) {
  const int result = ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
  return result == 0 ? 0 : errno;
}

void publish_folder(const std::string& from, const std::string& to,
                    const ExchangeFolders& exchange) {
  if (!fs::exists(to)) {
    rename_path(from, to);
    sync_folder(parent_of(to));
    return;
  }
  std::string old = from;
  const int error = exchange(from, to);
  if (error != 0) {
    TORCH_CHECK(error == EINVAL || error == ENOSYS || error == EXDEV, "cannot exchange ", from,
                " and ", to, ": ", reason(error));
    old = from + ".old.tmp";
    rename_path(to, old);
    rename_path(from, to);
  }
  sync_folder(parent_of(to));
  remove_folder(old);
}

}  // namespace tessera
