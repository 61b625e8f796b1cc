#include "trainer/metrics/run_summary.h"

#include <gmock/gmock.h>

namespace tessera {
namespace {

using ::testing::HasSubstr;

TEST(StartBanner, ShowsEverythingAligned) {
  EXPECT_EQ(
      start_banner({.version = "0.1.0",
                    .model = "llama3 debugmodel",
                    .num_parameters = 6163712,
                    .layout = "1 rank: dp 1 x tp 1",
                    .device = "cpu",
                    .dtype = "parameters float32, compute bfloat16",
                    .attention = "sdpa, mask causal & document",
                    .activation_checkpoint = "checkpointing every 2nd layer",
                    .local_batch_size = 8,
                    .seq_len = 2048,
                    .num_microbatches = 2,
                    .num_data_ranks = 4,
                    .optimizer = "AdamW, lr 0.0008",
                    .schedule = "2 warm-up, 8 linear decay",
                    .num_steps = 1000,
                    .dataset = "text_files",
                    .dataset_path = "include/torch",
                    .num_documents = 9876,
                    .tokenizer = "bytes (259 ids)",
                    .num_threads = 2,
                    .seed = 0,
                    .dump_folder = "./outputs"}),
      "Tessera 0.1.0\n"
      "  model        llama3 debugmodel\n"
      "  parameters   6,163,712 (6.2 M)\n"
      "  layout       1 rank: dp 1 x tp 1\n"
      "  device       cpu\n"
      "  dtype        parameters float32, compute bfloat16\n"
      "  attention    sdpa, mask causal & document\n"
      "  activations  checkpointing every 2nd layer\n"
      "  batch        8 rows x 2,048 tokens x 2 microbatches x 4 ranks = 131,072 tokens per step\n"
      "  steps        1,000\n"
      "  optimizer    AdamW, lr 0.0008\n"
      "  schedule     2 warm-up, 8 linear decay\n"
      "  dataset      text_files, include/torch, 9,876 documents\n"
      "  tokenizer    bytes (259 ids)\n"
      "  threads      2\n"
      "  seed         0\n"
      "  dump folder  ./outputs");
}

TEST(StartBanner, WhatIsNotGivenHasNoLine) {
  EXPECT_EQ(start_banner({.version = "0.1.0", .num_parameters = 12}),
            "Tessera 0.1.0\n  parameters   12");
}

TEST(StartBanner, OneOfAThingIsSingular) {
  const std::string banner = start_banner({.version = "0.1.0",
                                           .local_batch_size = 1,
                                           .seq_len = 512,
                                           .dataset = "jsonl",
                                           .num_documents = 1});
  EXPECT_THAT(banner,
              HasSubstr("1 row x 512 tokens x 1 microbatch x 1 rank = 512 tokens per step"));
  EXPECT_THAT(banner, HasSubstr("jsonl, 1 document"));
}

}  // namespace
}  // namespace tessera
