// [model], [optimizer], [lr_scheduler]
#include "configs/schema/config_fields.h"

namespace tessera::configs {

namespace {

ConfigSection model_section() {
  SectionBuilder s(
      "model", "Which model, and how it attends.",
      [](auto& config) -> auto& { return config.model; });
  s.add("name", &ModelSection::name, "Model family.").not_empty();
  s.add("flavor", &ModelSection::flavor, "Size within the family, by TorchTitan's names.")
      .not_empty();
  s.add("hf_assets_path", &ModelSection::hf_assets_path, "Hugging Face folder of the tokenizer.")
      .supports({std::string("./tests/assets/tokenizer"), std::string()},
                "tokenizer folders are not read yet; both mean the built-in byte-level tokenizer");
  s.add("tokenizer_path", &ModelSection::tokenizer_path, "TorchTitan: old name of hf_assets_path.")
      .only_default("tokenizer folders are not read yet");
  s.add("tokenizer", &ModelSection::tokenizer,
        "Tessera: which tokenizer: auto or a registered name; auto is bytes.")
      .not_empty();
  s.add("converters", &ModelSection::converters, "Conversions of the model, such as float8.")
      .only_default();
  s.add("print_after_conversion", &ModelSection::print_after_conversion,
        "Print the model after its conversion.")
      .inert("acts only with converters");
  s.add("attention", &ModelSection::attention,
        "Tessera: attention backend, by its registered name or alias (`tessera attention` lists "
        "them), with arguments if it takes some, such as `band(width=64)`; for each kind of layer "
        "its own as `flex, sliding=sdpa`. auto is flex on the CPU and sdpa elsewhere.")
      .not_empty();
  s.add(
       "attn_mask_type", &ModelSection::attn_mask_type,
       "Tessera: causal, or block_causal (causal within each document, so that packed documents do "
       "not see each other).")
      .choices({"causal", "block_causal"});
  s.add("mask", &ModelSection::mask,
        "Tessera: mask rule, such as `causal & document`; when not empty it replaces "
        "attn_mask_type.");
  return std::move(s).build();
}

ConfigSection optimizer_section() {
  SectionBuilder s(
      "optimizer", "The update rule. Weight decay acts on every parameter.",
      [](auto& config) -> auto& { return config.optimizer; });
  s.add("name", &Optimizer::name, "Optimizer.")
      .choices({"Adam", "AdamW"})
      .supports({std::string("AdamW")});
  s.add("lr", &Optimizer::lr, "Peak learning rate.").above(0);
  s.add("beta1", &Optimizer::beta1, "Decay of the mean of gradients.").from_below(0, 1);
  s.add("beta2", &Optimizer::beta2, "Decay of the mean of squared gradients.").from_below(0, 1);
  s.add("eps", &Optimizer::eps, "Added to the denominator of the update.").at_least(0);
  s.add("weight_decay", &Optimizer::weight_decay, "Decoupled weight decay.").at_least(0);
  s.add("implementation", &Optimizer::implementation, "How the update is computed.")
      .choices({"for-loop", "foreach", "fused"})
      .supports({std::string("fused")}, "the others give the same numbers, more slowly");
  s.add("early_step_in_backward", &Optimizer::early_step_in_backward,
        "Update each parameter as soon as its gradient is there.")
      .only_default("it excludes clipping by the norm of all gradients");
  return std::move(s).build();
}

ConfigSection lr_scheduler_section() {
  SectionBuilder s(
      "lr_scheduler", "Learning rate: linear warm-up, constant part, decay.",
      [](auto& config) -> auto& { return config.lr_scheduler; });
  s.add("warmup_steps", &LrScheduler::warmup_steps,
        "Steps of linear warm-up. More than the schedule has are shortened, with a warning.")
      .at_least(0);
  s.add("total_steps", &LrScheduler::total_steps,
        "Length of the schedule; training.steps when unset. At least training.steps.")
      .at_least(1);
  s.add("decay_ratio", &LrScheduler::decay_ratio,
        "Share of the schedule that decays, at its end; when unset everything after the warm-up.")
      .between(0, 1);
  s.add("decay_type", &LrScheduler::decay_type, "Shape of the decay.")
      .choices({"linear", "sqrt", "cosine"});
  s.add("min_lr_factor", &LrScheduler::min_lr_factor,
        "The decay ends at this share of the peak learning rate.")
      .between(0, 1);
  return std::move(s).build();
}

}  // namespace

std::vector<ConfigSection> model_sections() {
  return {model_section(), optimizer_section(), lr_scheduler_section()};
}

}  // namespace tessera::configs
