// [activation_checkpoint], [compile], [quantize.*]
#include "configs/schema/config_fields.h"

namespace tessera::configs {

namespace {

ConfigSection activation_checkpoint_section() {
  SectionBuilder s(
      "activation_checkpoint",
      "Recompute activations in the backward pass instead of keeping them.",
      [](auto& config) -> auto& { return config.activation_checkpoint; });
  s.add("mode", &ActivationCheckpoint::mode,
        "none; full: every layer; selective: every N-th layer, see selective_ac_option.")
      .choices({"selective", "full", "memory_budget", "none"})
      .supports({std::string("none"), std::string("full"), std::string("selective")});
  s.add("selective_ac_option", &ActivationCheckpoint::selective_ac_option,
        "\"N\": every N-th layer is recomputed. \"op\" (a choice per operator) is not supported "
        "yet. Acts only with mode = \"selective\".");
  s.add("per_op_sac_force_recompute_mm_shapes_by_fqns",
        &ActivationCheckpoint::per_op_sac_force_recompute_mm_shapes_by_fqns,
        "Modules whose matrix products are always recomputed.")
      .inert("acts only with selective_ac_option = \"op\"");
  s.add("early_stop", &ActivationCheckpoint::early_stop,
        "End the recomputation as soon as all that is needed is there.")
      .only_default();
  s.add("memory_budget", &ActivationCheckpoint::memory_budget, "Share of activations to keep.")
      .between(0, 1)
      .inert("acts only with mode = \"memory_budget\"");
  s.add("visualize_memory_budget_pareto", &ActivationCheckpoint::visualize_memory_budget_pareto,
        "Draw time over memory for all budgets.")
      .inert("acts only with mode = \"memory_budget\"");
  s.add("preserve_rng_state", &ActivationCheckpoint::preserve_rng_state,
        "Restore the generator's state for the recomputation.")
      .inert("no layer draws random numbers");
  s.add("determinism_check", &ActivationCheckpoint::determinism_check,
        "Check of recomputed tensors against the first ones.")
      .only_default();
  s.add("debug", &ActivationCheckpoint::debug, "TorchTitan: traces of both passes in errors.")
      .only_default();
  return std::move(s).build();
}

ConfigSection compile_section() {
  SectionBuilder s(
      "compile", "TorchTitan: compilation by torch.compile, which is Python's.",
      [](auto& config) -> auto& { return config.compile; });
  s.add("enable", &Compile::enable, "Compile.").only_default("kernels are compiled ahead of time");
  s.add("components", &Compile::components, "What to compile.")
      .choices({"model", "loss"})
      .inert("acts only with enable");
  s.add("backend", &Compile::backend, "Compiler.").inert("acts only with enable");
  return std::move(s).build();
}

// Without a converter the keys below do nothing, in TorchTitan as here. TorchTitan's recipes set
// the filters all the same.
const char* const kNoConverter = "acts only with a converter in model.converters";

ConfigSection float8_linear_section() {
  SectionBuilder s(
      "quantize.linear.float8", "Linear layers in float8.",
      [](auto& config) -> auto& { return config.quantize.linear.float8; });
  s.add("enable_fsdp_float8_all_gather", &Float8Linear::enable_fsdp_float8_all_gather,
        "Gather FSDP shards in float8.")
      .only_default();
  s.add("precompute_float8_dynamic_scale_for_fsdp",
        &Float8Linear::precompute_float8_dynamic_scale_for_fsdp,
        "Compute all scales at once after the optimizer step.")
      .only_default();
  s.add("recipe_name", &Float8Linear::recipe_name, "Granularity of the scales.")
      .choices({"tensorwise", "rowwise", "rowwise_with_gw_hp"})
      .only_default();
  s.add("filter_fqns", &Float8Linear::filter_fqns, "Modules to leave out.").inert(kNoConverter);
  s.add("emulate", &Float8Linear::emulate, "Emulate float8 on hardware without it.").only_default();
  return std::move(s).build();
}

ConfigSection mx_linear_section() {
  SectionBuilder s(
      "quantize.linear.mx", "Linear layers in MXFP8.",
      [](auto& config) -> auto& { return config.quantize.linear.mx; });
  s.add("mxfp8_dim1_cast_kernel_choice", &MxLinear::mxfp8_dim1_cast_kernel_choice,
        "Kernel of the cast along the first dimension.")
      .choices({"triton", "cuda", "torch"})
      .only_default();
  s.add("recipe_name", &MxLinear::recipe_name, "Recipe.").only_default();
  s.add("filter_fqns", &MxLinear::filter_fqns, "Modules to leave out.").inert(kNoConverter);
  return std::move(s).build();
}

ConfigSection float8_grouped_mm_section() {
  SectionBuilder s(
      "quantize.grouped_mm.float8", "Expert layers in float8.",
      [](auto& config) -> auto& { return config.quantize.grouped_mm.float8; });
  s.add("fqns", &Float8GroupedMm::fqns, "Modules to convert.").only_default();
  return std::move(s).build();
}

ConfigSection mx_grouped_mm_section() {
  SectionBuilder s(
      "quantize.grouped_mm.mx", "Expert layers in MXFP8.",
      [](auto& config) -> auto& { return config.quantize.grouped_mm.mx; });
  s.add("recipe_name", &MxGroupedMm::recipe_name, "Recipe.").choices({"mxfp8"});
  s.add("fqns", &MxGroupedMm::fqns, "Modules to convert.").only_default();
  return std::move(s).build();
}

}  // namespace

std::vector<ConfigSection> execution_sections() {
  return {activation_checkpoint_section(), compile_section(),
          float8_linear_section(),         mx_linear_section(),
          float8_grouped_mm_section(),     mx_grouped_mm_section()};
}

}  // namespace tessera::configs
