// Work that may fail on one rank: all ranks succeed, or all throw with the reason.
//
//   run_together(mesh.all(), [&] { write_own_file(); return digest; },
//                [&](const std::vector<std::string>& digests) { write_list(digests); return ""; });
//
// Collective over the group, within its timeout: a rank waits that long for the slowest one. What
// is thrown here when a rank is lost, and so never answers, is CommError.
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
// `conclude` on what they returned, in rank order. Returns what `conclude` returned, on every rank.
// When one of these throws, every rank throws c10::Error "rank 3: <reason>" with the first rank's
// reason (without "rank" in a group of one). Neither may communicate.
std::string run_together(
    const ProcessGroup& group, const std::function<std::string()>& work,
    const std::function<std::string(const std::vector<std::string>&)>& conclude = {});

}  // namespace tessera
