// Loading a library that works is tested by tests/out_of_tree_test.cmake, which installs the
// program and builds docs/examples/ against it.
#include "trainer/support/extensions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

using ::testing::Contains;
using testing::TempDir;

TEST(ExtensionsTest, WithoutLibrariesThereAreTheBuiltins) {
  const Registries registries = make_registries("");
  EXPECT_EQ(registries.attention.names(), AttentionRegistry::with_builtins().names());
  EXPECT_EQ(registries.masks.rule_names(), MaskRegistry::with_builtins().rule_names());
  EXPECT_EQ(registries.tokenizers.names(), TokenizerRegistry::with_builtins().names());
}

TEST(ExtensionsTest, ErrorsNameTheKeyTheFileAndWhatIsWrong) {
  const TempDir folder;
  const std::string key = "experimental.custom_import";
  EXPECT_ERROR(make_registries("/no/such/libmine.so"), key, "\"/no/such/libmine.so\"",
               "no such file");
  EXPECT_ERROR(make_registries(folder.path().string()), key, "no such file");
  const std::string text = folder.write("libtext.so", std::string(4096, 'x'));
  EXPECT_ERROR(make_registries(text), key, text, "invalid ELF header");
  EXPECT_ERROR(make_registries(PLAIN_LIBRARY), key, PLAIN_LIBRARY,
               "got no function tessera_extension_abi", "TESSERA_EXTENSION");
}

TEST(ExtensionsTest, RefusesALibraryForAnotherVersion) {
  EXPECT_ERROR(make_registries(OTHER_VERSION_EXTENSION), "experimental.custom_import",
               OTHER_VERSION_EXTENSION, "got a library for Tessera 0.0.0, LibTorch ",
               "expected one for Tessera " TESSERA_VERSION ", LibTorch ", "build it again");
}

TEST(ExtensionsTest, WhatAnExtensionThrowsIsToldWithItsFile) {
  EXPECT_ERROR(make_registries(THROWING_EXTENSION), "experimental.custom_import",
               THROWING_EXTENSION, "not on a Sunday");
}

}  // namespace
}  // namespace tessera
