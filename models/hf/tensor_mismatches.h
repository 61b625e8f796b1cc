// What is wrong with a set of tensors that was read for a model, all at once instead of one error
// per attempt.
//
//   TensorMismatches mismatches;
//   mismatches.add_missing("norm.weight");
//   mismatches.check("run/model.safetensors");   // throws: ... missing (1): norm.weight
#pragma once

#include <string>
#include <vector>

namespace tessera {

class TensorMismatches {
 public:
  void add_missing(const std::string& name);
  void add_unexpected(const std::string& name);
  void add_different(const std::string& name, const std::string& got, const std::string& expected);

  // Throws c10::Error that names them (the first 20 of each kind, and how many more) unless there
  // are none.
  void check(const std::string& where) const;

 private:
  std::vector<std::string> missing_;
  std::vector<std::string> unexpected_;
  std::vector<std::string> different_;
};

}  // namespace tessera
