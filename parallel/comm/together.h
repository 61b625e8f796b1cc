// Work that may fail on one rank: all ranks succeed, or all throw with the reason.
//
//   run_together(mesh.all(), [&] { write_own_file(); return digest; },
//                [&](const std::vector<std::string>& digests) { write_list(digests); return ""; });
//
// All functions here are collective over the group, within its timeout: a rank waits that long for
// the slowest one. They throw CommError when a rank is lost, and so never answers.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/comm/process_group.h"

namespace tessera {

// Every rank's text, in rank order, on every rank. Texts may differ in length.
std::vector<std::string> gather_texts(const std::string& own, const ProcessGroup& group);

// The text of the group's rank 0.
std::string broadcast_text(const std::string& text, const ProcessGroup& group);

// Runs `work` on every rank. When it has succeeded on all of them, the group's rank 0 runs
// `conclude` on the results, in rank order. Returns the text that `conclude` returned ("" without
// it), on every rank. When `work` throws, every rank throws c10::Error "rank 3: <reason>" with the
// global number and the reason of the first rank that failed (the reason alone in a group of one).
// When `conclude` throws, every rank throws c10::Error with its reason. Neither may communicate.
std::string run_together(
    const ProcessGroup& group, const std::function<std::string()>& work,
    const std::function<std::string(const std::vector<std::string>&)>& conclude = {});

}  // namespace tessera
