#include "trainer/job/job_layout.h"

#include <gtest/gtest.h>

#include "configs/load_config.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

JobConfig config_of(std::vector<std::string> overrides) {
  overrides.insert(overrides.end(), {"--training.dataset_path", "d", "--training.seq_len", "64",
                                     "--training.local_batch_size", "2"});
  return load_config("", overrides).config;
}

TEST(JobLayout, OneRankReadsEverything) {
  const JobLayout layout = plan_layout(config_of({}), 1);
  EXPECT_EQ(layout.num_ranks, 1);
  EXPECT_EQ(layout.num_data_ranks, 1);
  EXPECT_EQ(layout.num_microbatches, 1);
  EXPECT_EQ(layout.global_batch_size, 2);
}

TEST(JobLayout, DataRanksAreReplicasTimesShards) {
  const JobLayout layout = plan_layout(config_of({"--parallelism.data_parallel_replicate_degree",
                                                  "2", "--parallelism.tensor_parallel_degree", "2",
                                                  "--training.global_batch_size", "24"}),
                                       8);
  EXPECT_EQ(layout.dims.dp_shard, 2);
  EXPECT_EQ(layout.num_data_ranks, 4);
  EXPECT_EQ(layout.num_microbatches, 3);
}

TEST(JobLayout, RefusalsNameKeyValueAndWhatIsExpected) {
  EXPECT_ERROR(plan_layout(config_of({"--parallelism.tensor_parallel_degree", "3"}), 4),
               "[parallelism]", "tp 3", "4 ranks");
  EXPECT_ERROR(plan_layout(config_of({"--training.global_batch_size", "4"}), 4),
               "training.global_batch_size", "2 x 4", "got 4");
  EXPECT_ERROR(plan_layout(config_of({"--parallelism.tensor_parallel_degree", "3"}), 3),
               "training.seq_len", "3 x 1", "got 64");
  EXPECT_ERROR(plan_layout(config_of({"--parallelism.tensor_parallel_degree", "2",
                                      "--parallelism.disable_loss_parallel"}),
                           2),
               "parallelism.disable_loss_parallel", "tensor_parallel_degree = 2");
  EXPECT_NO_THROW(plan_layout(config_of({"--parallelism.disable_loss_parallel"}), 1));
}

}  // namespace
}  // namespace tessera
