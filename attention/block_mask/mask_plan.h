// MaskPlan: the instructions that a mask carries when the tokens it is used with are a part of a
// sequence whose rest other ranks hold, as under context parallelism.
//
// A mask with a plan has other keys than the caller's k and v have rows, so only an operator that
// knows how to fetch the rest may use it: AttentionOp refuses a mask whose plan is not of its own
// kind. attention/ knows of plans only that they exist; parallel/context/ derives one.
#pragma once

#include <string>

namespace tessera {

class MaskPlan {
 public:
  virtual ~MaskPlan() = default;

  // The kind of operator that reads the plan, e.g. "context".
  virtual std::string kind() const = 0;

  // One line for messages.
  virtual std::string to_string() const = 0;

  // Whether the plans say the same. The caller has checked that `other` has this plan's dynamic
  // type.
  virtual bool equals(const MaskPlan& other) const = 0;
};

}  // namespace tessera
