// How a rank's batch is cut into the microbatches of a pipeline.
//
//   num_microbatches(8, 2)   // 4
//   microbatch_sizes(5, 2)   // {3, 2}: for BlockMask::split, AttentionMasks::split, Tensor::split
#pragma once

#include <cstdint>
#include <vector>

namespace tessera::pipeline {

// The number of microbatches of pipeline_parallel_microbatch_size rows in local_batch_size rows.
// Throws c10::Error naming both keys unless the first divides the second.
int64_t num_microbatches(int64_t local_batch_size, int64_t microbatch_size);

// Sizes that differ by at most one row, larger ones first, as torch::tensor_split cuts. Throws
// c10::Error when there are more microbatches than rows.
std::vector<int64_t> microbatch_sizes(int64_t batch_size, int64_t num_microbatches);

}  // namespace tessera::pipeline
