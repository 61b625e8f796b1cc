// EXPECT_ERROR(statement, "part", "part"...) expects that the statement throws, and that the
// message (without backtrace) has every part. It fails the test without ending it.
//
//   EXPECT_ERROR(read_file(missing), missing, "No such file or directory");
#pragma once

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <exception>
#include <initializer_list>
#include <string>

namespace tessera::testing {

// The message of the exception that the statement throws, without backtrace; "" when it throws
// none.
template <typename F>
std::string message_of(F&& statement) {
  try {
    statement();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

template <typename F>
void expect_error(F&& statement, std::initializer_list<std::string> parts, const char* file,
                  int line) {
  const std::string message = message_of(statement);
  if (message.empty()) {
    ADD_FAILURE_AT(file, line) << "expected an error, got none";
    return;
  }
  for (const std::string& part : parts) {
    if (message.find(part) == std::string::npos) {
      ADD_FAILURE_AT(file, line) << "expected \"" << part << "\" in the error:\n" << message;
    }
  }
}

}  // namespace tessera::testing

#define EXPECT_ERROR(statement, ...) \
  ::tessera::testing::expect_error([&] { statement; }, {__VA_ARGS__}, __FILE__, __LINE__)
