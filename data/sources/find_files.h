// find_files turns training.dataset_path into a list of files.
//
// The value is a folder, a file, a glob, or a comma-separated list of these. A value (or entry)
// that exists as it is written is taken as it is written, so names with commas or brackets work.
//
//   folder  searched recursively for names that end in one of `suffixes`; names that start with a
//           dot are passed over; symbolic links are followed, but a link to a folder that is being
//           searched already is not entered
//   file    taken whatever its name
//   glob    *, ? and [...] as in glob(7); matching files are taken whatever their names, matching
//           folders are searched. `**` is refused: name the folder instead
//
//   find_files("corpus,extra/*.txt", {".txt", ".md"})   // corpus: its .txt and .md; and the glob
//
// The result is sorted by the bytes of the paths, each path once. File types come from the
// directory entries: no file in a folder is opened, and only links are looked up.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// Throws c10::Error naming training.dataset_path, the entry, and what is wrong with it: it does not
// exist, cannot be read (with the system's reason), matches nothing, or holds no such file.
std::vector<std::string> find_files(const std::string& dataset_path,
                                    const std::vector<std::string_view>& suffixes);

}  // namespace tessera
