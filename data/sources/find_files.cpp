#include "data/sources/find_files.h"

#include <c10/util/Exception.h>
#include <dirent.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "data/files/file_io.h"

namespace tessera {
namespace {

constexpr const char* kExpected =
    "expected a folder, a file, a glob or a comma-separated list of these";

std::string joined(const std::vector<std::string_view>& suffixes) {
  std::string list;
  for (std::string_view suffix : suffixes) list.append(list.empty() ? "" : " ").append(suffix);
  return list;
}

// The status of `path`, links followed; no value when nothing stands there. Any other failure is
// thrown, for the user to know.
std::optional<struct stat> look_up(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) return status;
  const int error = errno;
  const bool dangling = error == ENOENT && ::lstat(path.c_str(), &status) == 0;
  TORCH_CHECK(!dangling, "training.dataset_path: ", path,
              " is a symbolic link to something that does not exist");
  TORCH_CHECK(error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG,
              "training.dataset_path: cannot read ", path, ": ", system_error_text(error));
  return std::nullopt;
}

// Searches one folder and those below it; remembers which folders are open, so that a loop of links
// comes to an end.
class FolderSearch {
 public:
  FolderSearch(const std::vector<std::string_view>& suffixes, std::vector<std::string>& files)
      : suffixes_(suffixes), files_(files) {}

  void search(const std::string& folder) {
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(folder.c_str()), &::closedir);
    TORCH_CHECK(stream != nullptr, "training.dataset_path: cannot read folder ", folder, ": ",
                system_error_text(errno));
    struct stat status {};
    TORCH_CHECK(::fstat(::dirfd(stream.get()), &status) == 0,
                "training.dataset_path: cannot read folder ", folder, ": ",
                system_error_text(errno));
    const FolderId id{status.st_dev, status.st_ino};
    if (std::find(open_.begin(), open_.end(), id) != open_.end()) return;
    open_.push_back(id);
    read_entries(stream.get(), folder.back() == '/' ? folder : folder + '/');
    open_.pop_back();
  }

 private:
  using FolderId = std::pair<dev_t, ino_t>;

  void read_entries(DIR* stream, const std::string& prefix) {
    while (true) {
      errno = 0;
      const dirent* entry = ::readdir(stream);
      if (entry == nullptr) break;
      if (entry->d_name[0] != '.') take(*entry, prefix + entry->d_name);
    }
    TORCH_CHECK(errno == 0, "training.dataset_path: cannot read folder ", prefix, ": ",
                system_error_text(errno));
  }

  void take(const dirent& entry, std::string path) {
    unsigned char type = entry.d_type;
    const bool wanted = has_suffix(path);
    // A link or an entry of unknown type (some file systems) that might be a folder, or a file that
    // is wanted.
    if (type == DT_LNK || type == DT_UNKNOWN) type = type_behind(path, wanted);
    if (type == DT_DIR) {
      search(path);
    } else if (type == DT_REG && wanted) {
      files_.push_back(std::move(path));
    }
  }

  // A broken link matters only where a file was expected.
  static unsigned char type_behind(const std::string& path, bool wanted) {
    struct stat status {};
    if (!wanted && ::stat(path.c_str(), &status) != 0) return DT_UNKNOWN;
    const std::optional<struct stat> found = look_up(path);
    if (!found) return DT_UNKNOWN;
    return S_ISDIR(found->st_mode) ? DT_DIR : S_ISREG(found->st_mode) ? DT_REG : DT_UNKNOWN;
  }

  bool has_suffix(std::string_view path) const {
    return std::any_of(suffixes_.begin(), suffixes_.end(),
                       [&](std::string_view suffix) { return path.ends_with(suffix); });
  }

  const std::vector<std::string_view>& suffixes_;
  std::vector<std::string>& files_;
  std::vector<FolderId> open_;
};

void check_regular(const std::string& path, const struct stat& status) {
  TORCH_CHECK(S_ISREG(status.st_mode), "training.dataset_path: ", path,
              " is neither a folder nor a regular file; ", kExpected);
}

void add_named(const std::string& path, const struct stat& status,
               const std::vector<std::string_view>& suffixes, std::vector<std::string>& files) {
  if (!S_ISDIR(status.st_mode)) {
    check_regular(path, status);
    const InputFile readable(
        path);  // a file that the user names must be readable now, not in an hour
    files.push_back(path);
    return;
  }
  const size_t before = files.size();
  FolderSearch(suffixes, files).search(path);
  TORCH_CHECK(files.size() > before, "training.dataset_path: folder ", path,
              " holds no file whose name ends in one of: ", joined(suffixes));
}

std::vector<std::string> expand_glob(const std::string& pattern) {
  glob_t found{};
  const std::unique_ptr<glob_t, void (*)(glob_t*)> release(&found, &::globfree);
  errno = 0;
  const int result = ::glob(pattern.c_str(), GLOB_ERR | GLOB_NOSORT, nullptr, &found);
  TORCH_CHECK(result != GLOB_NOMATCH, "training.dataset_path: glob '", pattern,
              "' matches nothing; ", kExpected);
  TORCH_CHECK(result == 0, "training.dataset_path: cannot read the folders of glob '", pattern,
              "': ", system_error_text(errno));
  return {found.gl_pathv, found.gl_pathv + found.gl_pathc};
}

void add_glob(const std::string& pattern, const std::vector<std::string_view>& suffixes,
              std::vector<std::string>& files) {
  TORCH_CHECK(pattern.find("**") == std::string::npos, "training.dataset_path: '**' in glob '",
              pattern, "' is not supported; a folder is searched recursively, name that");
  const size_t before = files.size();
  for (const std::string& path : expand_glob(pattern)) {
    const std::optional<struct stat> status = look_up(path);
    TORCH_CHECK(status, "training.dataset_path: ", path, " went away while it was looked up");
    if (S_ISDIR(status->st_mode)) {
      FolderSearch(suffixes, files).search(path);
    } else {
      check_regular(path, *status);
      files.push_back(path);
    }
  }
  TORCH_CHECK(
      files.size() > before, "training.dataset_path: glob '", pattern,
      "' matches only folders without a file whose name ends in one of: ", joined(suffixes));
}

void add_entry(const std::string& entry, const std::vector<std::string_view>& suffixes,
               std::vector<std::string>& files) {
  if (const std::optional<struct stat> status = look_up(entry)) {
    return add_named(entry, *status, suffixes, files);
  }
  TORCH_CHECK(entry.find_first_of("*?[") != std::string::npos, "training.dataset_path: '", entry,
              "' does not exist; ", kExpected);
  add_glob(entry, suffixes, files);
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

std::vector<std::string> split_list(const std::string& dataset_path) {
  std::vector<std::string> entries;
  size_t begin = 0;
  while (true) {
    const size_t comma = dataset_path.find(',', begin);
    entries.push_back(trimmed(dataset_path.substr(begin, comma - begin)));
    TORCH_CHECK(!entries.back().empty(), "training.dataset_path: entry ", entries.size(), " of '",
                dataset_path, "' is empty; ", kExpected);
    if (comma == std::string::npos) return entries;
    begin = comma + 1;
  }
}

}  // namespace

std::vector<std::string> find_files(const std::string& dataset_path,
                                    const std::vector<std::string_view>& suffixes) {
  TORCH_CHECK(!trimmed(dataset_path).empty(), "training.dataset_path: got nothing, ", kExpected);
  std::vector<std::string> files;
  if (const std::optional<struct stat> status = look_up(dataset_path)) {
    add_named(dataset_path, *status, suffixes, files);
  } else {
    for (const std::string& entry : split_list(dataset_path)) add_entry(entry, suffixes, files);
  }
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

}  // namespace tessera
