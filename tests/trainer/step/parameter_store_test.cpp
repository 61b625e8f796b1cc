#include "trainer/step/parameter_store.h"

#include <gtest/gtest.h>

#include "attention/registry/registry.h"
#include "tests/support/small_models.h"

namespace tessera {
namespace {

Llama3 one_layer(bool tied = false) {
  return Llama3(testing::small_llama({.n_layers = 1, .tied = tied}),
                AttentionRegistry::with_builtins().make("eager"));
}

TEST(ParameterStoreTest, NamesAndShapesAreTheModels) {
  Llama3 model = one_layer();
  const ParameterStore store(model, {}, 3);
  const NamedTensors masters = store.named_masters();
  const std::vector<ParameterSlot> slots = model.parameters();
  ASSERT_EQ(masters.size(), slots.size());
  int64_t num_parameters = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    EXPECT_EQ(masters[i].first, slots[i].name);
    EXPECT_EQ(masters[i].second.sizes(), slots[i].tensor->sizes()) << slots[i].name;
    EXPECT_TRUE(slots[i].tensor->requires_grad()) << slots[i].name;
    num_parameters += masters[i].second.numel();
  }
  EXPECT_EQ(num_parameters, model.num_parameters());
}

TEST(ParameterStoreTest, EqualDtypesShareOneBuffer) {
  Llama3 model = one_layer();
  ParameterStore store(model, {}, 3);
  store.masters().fill_(0.5);
  EXPECT_EQ(model.head_weight().mean().item<double>(), 0.5);
}

TEST(ParameterStoreTest, ComputeCopiesFollowOnRefresh) {
  Llama3 model = one_layer();
  ParameterStore store(
      model, {.device = at::kCPU, .master_dtype = at::kFloat, .compute_dtype = at::kBFloat16}, 3);
  store.masters().fill_(0.3);
  EXPECT_NE(model.head_weight()[0][0].item<float>(), static_cast<float>(c10::BFloat16(0.3f)));
  store.refresh();
  EXPECT_EQ(model.head_weight()[0][0].item<float>(), static_cast<float>(c10::BFloat16(0.3f)));
}

TEST(ParameterStoreTest, InitialWeightsDependOnSeedAndNameAlone) {
  Llama3 a = one_layer(), b = one_layer(), c = one_layer(), d = one_layer(true);
  const ParameterStore first(a, {}, 3), again(b, {}, 3), other_seed(c, {}, 4), tied(d, {}, 3);
  const NamedTensors x = first.named_masters(), y = again.named_masters(),
                     z = other_seed.named_masters();
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_TRUE(x[i].second.equal(y[i].second)) << x[i].first;
    const bool is_norm = x[i].first.find("norm") != std::string::npos;
    EXPECT_EQ(x[i].second.equal(z[i].second), is_norm) << x[i].first;
  }
  for (const auto& [name, master] : tied.named_masters()) {
    for (const auto& [other_name, other] : x) {
      // A tied embedding is the head as well and starts like one.
      if (name != other_name || name == "tok_embeddings.weight") continue;
      EXPECT_TRUE(master.equal(other)) << name << " depends on the other parameters";
    }
  }
}

TEST(ParameterStoreTest, GradientsAccumulateInPlace) {
  Llama3 model = one_layer();
  ParameterStore store(model, {}, 3);
  const at::Tensor head = model.head_weight();
  head.sum().backward();
  head.sum().backward();
  EXPECT_EQ(store.named_gradients().back().second.min().item<double>(), 2.0);
  EXPECT_EQ(store.gradients().sum().item<double>(), 2.0 * static_cast<double>(head.numel()));
  store.zero_gradients();
  EXPECT_EQ(head.grad().abs().max().item<double>(), 0.0);
}

}  // namespace
}  // namespace tessera
