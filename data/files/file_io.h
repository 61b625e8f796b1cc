// Reading files, with errors that name the file and the system's reason.
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

// An open file descriptor. Every method throws c10::Error: "cannot open PATH: No such file or
// directory".
class InputFile {
 public:
  explicit InputFile(std::string path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  // Size as the system states it; not to be relied upon (pseudo files state 0).
  int64_t stated_size() const;

  // Up to `size` bytes from the current place; 0 at the end of the file only.
  int64_t read(char* to, int64_t size);

  // Exactly `size` bytes from `offset`; a file that ends before them is an error.
  void read_at(int64_t offset, char* to, int64_t size) const;

 private:
  std::string path_;
  int descriptor_ = -1;
};

std::string read_file(const std::string& path);

// The system's text for an errno value.
std::string system_error_text(int error);

}  // namespace tessera
