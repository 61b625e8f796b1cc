// Documents from JSON Lines files: each line is an object whose field `text` is the document. A
// blank line is an empty document. Internal to data/sources/; callers use open_text_source.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/sources/text_source.h"

namespace tessera {

// Reads `files` through once to find their lines. Throws c10::Error when one of them is unreadable
// or all are empty.
//
// read() throws, naming file:line, when a line is not JSON, not an object, or has no field `text`
// that is a string; the byte offset of invalid UTF-8 counts from the start of the line. A byte
// order mark at the start of a file is skipped.
std::unique_ptr<TextSource> open_jsonl_files(std::vector<std::string> files);

}  // namespace tessera
