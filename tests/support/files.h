// Reading whole files in tests, without the code under test.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace tessera::testing {

// The content of a file; "" when it cannot be read.
inline std::string content_of(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream content;
  content << stream.rdbuf();
  return content.str();
}

}  // namespace tessera::testing
