// What rank 0 keeps of a step, and the table of its fields, from which metrics.jsonl is written and
// read. A metric is a member with its line in the table.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>

namespace tessera {

struct StepRecord {
  int64_t step = 0;        // counted from 1
  double loss = 0;         // sum over the step's valid labels / their number, all ranks
  double max_loss = 0;     // the largest mean loss of any rank
  double grad_norm = 0;    // before clipping
  double lr = 0;           // used in this step
  int64_t num_tokens = 0;  // of this step and all ranks, with padding and ignored targets
  double step_s = 0;       // wall time of the step, data included
  double data_s = 0;       // the part of step_s that was spent on data
  double tps = 0;          // tokens per second and device
  std::optional<double> tflops = {};  // model FLOPs per second and device, in 1e12
  std::optional<double> mfu = {};     // percent of the device's peak; nothing where that is unknown
  std::optional<double> memory_gib = {};  // peak so far (memory.h)

  bool operator==(const StepRecord&) const = default;
};

// A field by the name that it has in files. The member's type says whether it is an integer or a
// number, and whether records without it can be read.
struct MetricField {
  using Integer = int64_t StepRecord::*;
  using Number = double StepRecord::*;
  using OptionalNumber = std::optional<double> StepRecord::*;

  const char* key;
  std::variant<Integer, Number, OptionalNumber> member;
};

// Every field, in the order in which files have them.
inline constexpr MetricField kMetricFields[] = {
    {"step", &StepRecord::step},
    {"loss", &StepRecord::loss},
    {"max_loss", &StepRecord::max_loss},
    {"grad_norm", &StepRecord::grad_norm},
    {"lr", &StepRecord::lr},
    {"num_tokens", &StepRecord::num_tokens},
    {"step_s", &StepRecord::step_s},
    {"data_s", &StepRecord::data_s},
    {"tps", &StepRecord::tps},
    {"tflops", &StepRecord::tflops},
    {"mfu", &StepRecord::mfu},
    {"memory_gib", &StepRecord::memory_gib},
};

}  // namespace tessera
