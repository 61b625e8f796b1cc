// Any text is either a schedule or an error; a schedule prints as text that is the same schedule.
#include <c10/util/Exception.h>

#include <cstdint>
#include <string_view>

#include "parallel/pipeline/schedules/schedule_csv.h"
#include "parallel/pipeline/schedules/validate_schedule.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace tessera::pipeline;
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  try {
    const Schedule schedule = read_schedule_csv(text);
    if (read_schedule_csv(write_schedule_csv(schedule)).ranks != schedule.ranks) __builtin_trap();
    validate_schedule(schedule);
  } catch (const c10::Error&) {
  }
  return 0;
}
