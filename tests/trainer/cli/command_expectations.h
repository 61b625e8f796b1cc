// Expectations of tests of the program's commands about a finished process.
//
//   expect_parts(run_process({TESSERA_BINARY, "mask", "causal"}), 2, {"no layout", "--tokens"});
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/process.h"

namespace tessera::testing {

// Expects the exit status, every part somewhere in the output, and no backtrace.
inline void expect_parts(const ProcessResult& result, int status,
                         const std::vector<std::string>& parts) {
  EXPECT_EQ(result.status, status) << result.output;
  for (const std::string& part : parts) {
    EXPECT_NE(result.output.find(part), std::string::npos) << "no \"" << part << "\" in:\n"
                                                           << result.output;
  }
  EXPECT_EQ(result.output.find("Exception raised from"), std::string::npos) << "a backtrace";
}

}  // namespace tessera::testing
