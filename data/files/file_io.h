// Reading files, with errors that name the file and the system's reason.
//
//   const std::string text = read_file("run/config.toml");
//
//   InputFile file("corpus.jsonl");
//   file.read_at(offset, buffer.data(), num_bytes);
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

// An open file descriptor. The constructor and every method throw c10::Error such as
// "cannot open PATH: No such file or directory". Sizes and offsets are in bytes.
class InputFile {
 public:
  explicit InputFile(std::string path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  // The size that the system states; not to be relied upon (pseudo files state 0).
  int64_t stated_size() const;

  // Up to `size` bytes from the current place; 0 at the end of the file only.
  int64_t read(char* to, int64_t size);

  // Exactly `size` bytes from `offset`, without moving the place of read(); a file that ends before
  // them is an error. Several threads may call it at once.
  void read_at(int64_t offset, char* to, int64_t size) const;

 private:
  std::string path_;
  int descriptor_ = -1;
};

// The whole content of a file, read to its end whatever size the system states.
std::string read_file(const std::string& path);

// The system's text for an errno value.
std::string system_error_text(int error);

}  // namespace tessera
