// run_units: runs independent units of work on all threads (at::get_num_threads()); a thread takes
// the next unit when it is free. Internal to attention/backends/flex/.
//
//   run_units(units.size(), [&] { return Buffers(); },
//             [&](size_t i, Buffers& buffers) { run(units[i], buffers); });
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace tessera::flex {

// make_state() is called once per thread, work(i, state) once for each i below num_units, with the
// state of the thread that runs it. The result of a unit must not depend on the thread that runs
// it.
template <typename MakeState, typename Work>
void run_units(size_t num_units, MakeState make_state, Work work) {
  std::atomic<size_t> next = 0;
  const auto num_threads =
      std::min<int64_t>(at::get_num_threads(), static_cast<int64_t>(num_units));
  at::parallel_for(0, num_threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      auto state = make_state();
      for (size_t i = next++; i < num_units; i = next++) work(i, state);
    }
  });
}

}  // namespace tessera::flex
