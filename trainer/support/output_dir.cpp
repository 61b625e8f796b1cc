#include "trainer/support/output_dir.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "data/files/durable_file.h"
#include "trainer/support/text_format.h"

namespace tessera {
namespace {

[[noreturn]] void fail(const std::string& path, const char* what, int error) {
  TORCH_CHECK(false, "job.dump_folder: ", path, " ", what, ": ",
              std::generic_category().message(error));
}

int open_or_fail(const std::string& path, int flags) {
  int fd = -1;
  do {
    fd = open(path.c_str(), flags | O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) fail(path, "cannot be opened for writing", errno);
  return fd;
}

// Returns 0 or the error number. A short write is followed by one that tells why (a full disk).
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

// The system's reasons come from DurableFile; what the file is for is said here.
template <typename Action>
void with_context(const std::string& context, const Action& action) {
  try {
    action();
  } catch (c10::Error& error) {
    error.add_context("job.dump_folder: " + context);
    throw;
  }
}

void check_free_space(const std::string& folder, int64_t min_free_bytes) {
  constexpr double kBytesPerGib = 1024.0 * 1024.0 * 1024.0;
  struct statvfs info = {};
  if (statvfs(folder.c_str(), &info) != 0) fail(folder, "does not tell its free space", errno);
  const double free_bytes = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
  const auto needed_bytes = static_cast<double>(min_free_bytes);
  TORCH_CHECK(free_bytes >= needed_bytes, "job.dump_folder: ", folder, " has ",
              fixed(free_bytes / kBytesPerGib, 3), " GiB free, this run needs at least ",
              fixed(needed_bytes / kBytesPerGib, 3), " GiB there");
}

}  // namespace

void prepare_output_dir(const std::string& dump_folder, int64_t min_free_bytes) {
  TORCH_CHECK(!dump_folder.empty(), "job.dump_folder is empty, expected the path of a folder");
  std::error_code error;
  std::filesystem::create_directories(dump_folder, error);
  if (error) fail(dump_folder, "cannot be made a folder", error.value());
  check_free_space(dump_folder, min_free_bytes);
  const std::filesystem::path probe =
      std::filesystem::path(dump_folder) / (".probe." + std::to_string(getpid()));
  with_context(dump_folder + " is not writable",
               [&] { write_durable_file(probe.string(), std::string(4096, '\n')); });
  std::filesystem::remove(probe, error);
  if (error) fail(probe.string(), "cannot be removed", error.value());
}

void write_file_atomically(const std::string& path, std::string_view content) {
  with_context(path + " cannot be written", [&] { write_durable_file(path, content); });
}

AppendFile::AppendFile(std::string path)
    : path_(std::move(path)), fd_(open_or_fail(path_, O_APPEND)) {}

AppendFile::~AppendFile() { close(fd_); }

void AppendFile::append(std::string_view text) {
  if (const int error = write_all(fd_, text)) fail(path_, "cannot be written", error);
}

}  // namespace tessera
