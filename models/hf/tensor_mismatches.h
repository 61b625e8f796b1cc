// TensorMismatches collects everything that is wrong with a set of tensors that was read for a
// model, so that one error names all of it instead of one error per attempt.
//
//   TensorMismatches mismatches;
//   mismatches.add_missing("norm.weight");
//   mismatches.check("run/model.safetensors");
//   // throws "run/model.safetensors: the tensors are not those of the model
//   //           missing (1): norm.weight"
#pragma once

#include <string>
#include <vector>

namespace tessera {

class TensorMismatches {
 public:
  void add_missing(const std::string& name);
  void add_unexpected(const std::string& name);

  // A tensor of another shape or dtype; got and expected are texts for the message.
  void add_different(const std::string& name, const std::string& got, const std::string& expected);

  // Throws c10::Error unless nothing was added. The message starts with `where` and names the first
  // 20 tensors of each kind, in the order in which they were added, and how many more there are.
  void check(const std::string& where) const;

 private:
  std::vector<std::string> missing_;
  std::vector<std::string> unexpected_;
  std::vector<std::string> different_;
};

}  // namespace tessera
