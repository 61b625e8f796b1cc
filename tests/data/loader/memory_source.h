// MemorySource: documents in memory, for tests of the loader. It notes which documents are read.
#pragma once

#include <c10/util/Exception.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/sources/text_source.h"

namespace tessera::testing {

class MemorySource final : public TextSource {
 public:
  using Log = std::vector<int64_t>;

  // Each call of text() or read() appends its index to `log`, when one is given.
  explicit MemorySource(std::vector<std::string> texts, std::shared_ptr<Log> log = nullptr)
      : texts_(std::move(texts)), log_(std::move(log)) {}

  int64_t num_documents() const override { return static_cast<int64_t>(texts_.size()); }

  std::string text(int64_t index) const override {
    if (log_) log_->push_back(index);
    return texts_.at(static_cast<size_t>(index));
  }

  std::string location(int64_t index) const override { return "memory:" + std::to_string(index); }

 private:
  std::vector<std::string> texts_;
  std::shared_ptr<Log> log_;
};

}  // namespace tessera::testing
