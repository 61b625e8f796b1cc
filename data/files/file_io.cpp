#include "data/files/file_io.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace tessera {

std::string system_error_text(int error) { return std::generic_category().message(error); }

InputFile::InputFile(std::string path)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
  TORCH_CHECK(descriptor_ >= 0, "cannot open ", path_, ": ", system_error_text(errno));
}

InputFile::~InputFile() { ::close(descriptor_); }

int64_t InputFile::stated_size() const {
  struct stat status {};
  TORCH_CHECK(::fstat(descriptor_, &status) == 0, "cannot read ", path_, ": ",
              system_error_text(errno));
  return status.st_size;
}

int64_t InputFile::read(char* to, int64_t size) {
  while (true) {
    const ssize_t got = ::read(descriptor_, to, static_cast<size_t>(size));
    if (got >= 0) return got;
    TORCH_CHECK(errno == EINTR, "cannot read ", path_, ": ", system_error_text(errno));
  }
}

void InputFile::read_at(int64_t offset, char* to, int64_t size) const {
  int64_t done = 0;
  while (done < size) {
    const ssize_t got = ::pread(descriptor_, to + done, static_cast<size_t>(size - done),
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    TORCH_CHECK(got >= 0, "cannot read ", path_, ": ", system_error_text(errno));
    TORCH_CHECK(got > 0, "cannot read ", path_, ": it ends at byte ", offset + done,
                ", expected at least ", offset + size, " bytes (changed since it was opened?)");
    done += got;
  }
}

std::string read_file(const std::string& path) {
  InputFile file(path);
  constexpr int64_t kLeastRoom = 4096;
  // The room is one byte more than stated, so that the end of the file is usually met without
  // growing.
  std::string text(static_cast<size_t>(std::max(file.stated_size() + 1, kLeastRoom)), '\0');
  size_t size = 0;
  while (true) {
    const int64_t room = static_cast<int64_t>(text.size() - size);
    const int64_t got = file.read(text.data() + size, room);
    if (got == 0) break;
    size += static_cast<size_t>(got);
    if (size == text.size()) text.resize(2 * text.size());
  }
  text.resize(size);
  return text;
}

}  // namespace tessera
