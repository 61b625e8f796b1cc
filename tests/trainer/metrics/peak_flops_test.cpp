#include "trainer/metrics/peak_flops.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(PeakFlops, KnownCardsHaveTheirDenseBfloat16Peak) {
  EXPECT_EQ(peak_bf16_flops("NVIDIA A100-SXM4-80GB"), 312e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA A100-PCIE-40GB"), 312e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA H100 80GB HBM3"), 989e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA H100 SXM5"), 989e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA H100 NVL"), 835e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA H100 PCIe"), 756e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA H200"), 989e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA H200 NVL"), 835e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA H20"), 148e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA B200"), 2.25e15);
  EXPECT_EQ(peak_bf16_flops("NVIDIA GB200"), 2.5e15);
  EXPECT_EQ(peak_bf16_flops("NVIDIA GB300"), 2.5e15);
  EXPECT_EQ(peak_bf16_flops("AMD Instinct MI300X"), 1300e12);
  EXPECT_EQ(peak_bf16_flops("AMD Instinct MI325X"), 1300e12);
  EXPECT_EQ(peak_bf16_flops("AMD Instinct MI355X"), 2500e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA L40S"), 362e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA RTX A6000"), 154.85e12);
}

TEST(PeakFlops, WhatIsNotKnownIsNotGuessed) {
  for (const char* name :
       {"", "cpu", "Intel(R) Xeon(R) Platinum 8488C", "NVIDIA GeForce RTX 4090", "NVIDIA L40",
        "NVIDIA A1000", "NVIDIA A10", "NVIDIA GH200 480GB", "NVIDIA RTX 6000 Ada Generation",
        "NVIDIA H100", "NVIDIA H2000", "AMD Instinct MI300A", "---"}) {
    EXPECT_EQ(peak_bf16_flops(name), std::nullopt) << name;
  }
}

TEST(PeakFlops, ASliceOfACardHasNoPeakOfItsOwn) {
  EXPECT_EQ(peak_bf16_flops("NVIDIA A100-SXM4-40GB MIG 1g.5gb"), std::nullopt);
}

}  // namespace
}  // namespace tessera
