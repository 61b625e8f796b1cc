#include "trainer/support/extensions.h"

#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <cstring>
#include <filesystem>
#include <sstream>

#include "models/extension.h"

namespace tessera {
namespace {

std::string text_of(const ExtensionAbi& abi) {
  return c10::str("Tessera ", abi.tessera_version, ", LibTorch ", abi.libtorch_version,
                  ", compiler ABI ", abi.compiler_abi, ", C++11 strings ", abi.cxx11_strings,
                  ", layout ", abi.layout);
}

bool same(const ExtensionAbi& a, const ExtensionAbi& b) {
  return std::strcmp(a.tessera_version, b.tessera_version) == 0 &&
         std::strcmp(a.libtorch_version, b.libtorch_version) == 0 &&
         a.compiler_abi == b.compiler_abi && a.cxx11_strings == b.cxx11_strings &&
         a.layout == b.layout;
}

class Extension {
 public:
  explicit Extension(std::string path) : path_(std::move(path)) {
    std::error_code error;
    const auto absolute = std::filesystem::absolute(path_, error);
    check(std::filesystem::is_regular_file(absolute, error), "no such file");
    // Never closed: functions and types of the library live on in the registries.
    handle_ = dlopen(absolute.c_str(), RTLD_NOW | RTLD_LOCAL);
    check(handle_ != nullptr, handle_ == nullptr ? dlerror() : "");
  }

  void add_to(Registries& registries) const {
    constexpr ExtensionAbi kOurs = extension_abi();
    const auto abi = symbol<ExtensionAbi (*)()>("tessera_extension_abi")();
    check(same(abi, kOurs), "got a library for " + text_of(abi) + ", expected one for " +
                                text_of(kOurs) + "; build it again against this installation");
    const auto add = symbol<void (*)(ExtensionRegistries&)>("tessera_register_extension");
    ExtensionRegistries ours{.attention = registries.attention,
                             .masks = registries.masks,
                             .tokenizers = registries.tokenizers};
    try {
      add(ours);
    } catch (const c10::Error& error) {
      check(false, error.what_without_backtrace());
    } catch (const std::exception& error) {
      check(false, error.what());
    }
  }

 private:
  void check(bool holds, const std::string& what) const {
    TORCH_CHECK(holds, "experimental.custom_import: \"", path_, "\": ", what);
  }

  template <typename Function>
  Function symbol(const char* name) const {
    void* const found = dlsym(handle_, name);
    check(found != nullptr, c10::str("got no function ", name,
                                     ", expected a library with TESSERA_EXTENSION of "
                                     "models/extension.h"));
    return reinterpret_cast<Function>(found);
  }

  std::string path_;
  void* handle_ = nullptr;
};

}  // namespace

Registries make_registries(const std::string& custom_import) {
  Registries registries;
  std::istringstream paths(custom_import);
  for (std::string path; std::getline(paths, path, ',');) {
    Extension(path).add_to(registries);
  }
  return registries;
}

}  // namespace tessera
