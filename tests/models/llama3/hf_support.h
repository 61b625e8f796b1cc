// Hugging Face folders and models made from them, for tests.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "attention/registry/registry.h"
#include "models/llama3/hf.h"
#include "tests/support/flat_parameters.h"
#include "tests/support/golden.h"
#include "tests/support/temp_dir.h"

namespace tessera::testing {

inline nlohmann::json read_json(const std::filesystem::path& path) {
  return nlohmann::json::parse(std::ifstream(path));
}

// Makes `dir` a copy of the golden folder models/<model> (links to its weights) with another
// config.json, whose content is `config`.
inline void make_folder(const TempDir& dir, const std::string& model, const std::string& config) {
  dir.write("config.json", config);
  for (const auto& entry : std::filesystem::directory_iterator(golden("models/" + model))) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("model")) std::filesystem::create_symlink(entry.path(), dir.path() / name);
  }
}

// A model with storage of this dtype and without values; `backend` is an attention backend's name.
inline std::unique_ptr<Llama3> materialised(const Llama3Config& config, const std::string& backend,
                                            at::ScalarType dtype) {
  const AttentionOp op = AttentionRegistry::with_builtins().make(backend);
  auto model = std::make_unique<Llama3>(config, op);
  bind_flat(model->parameters(), dtype);
  return model;
}

}  // namespace tessera::testing
