#include "parallel/pipeline/microbatches.h"

#include <c10/util/Exception.h>

namespace tessera::pipeline {

int64_t num_microbatches(int64_t local_batch_size, int64_t microbatch_size) {
  TORCH_CHECK(
      microbatch_size >= 1 && local_batch_size >= 1 && local_batch_size % microbatch_size == 0,
      "pipeline_parallel_microbatch_size: got ", microbatch_size,
      ", expected a divisor of local_batch_size (", local_batch_size, ")");
  return local_batch_size / microbatch_size;
}

std::vector<int64_t> microbatch_sizes(int64_t batch_size, int64_t num_microbatches) {
  TORCH_CHECK(num_microbatches >= 1 && num_microbatches <= batch_size, "pipeline: got ",
              num_microbatches, " microbatches of ", batch_size,
              " rows, expected 1 to as many as rows");
  std::vector<int64_t> sizes(num_microbatches, batch_size / num_microbatches);
  for (int64_t i = 0; i < batch_size % num_microbatches; ++i) ++sizes[i];
  return sizes;
}

}  // namespace tessera::pipeline
