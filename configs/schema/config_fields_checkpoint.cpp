// [checkpoint]
#include "configs/schema/config_fields.h"

namespace tessera::configs {

namespace {

void add_save_keys(auto& s) {
  s.add("enable", &Checkpoint::enable, "Save, and load, checkpoints.");
  s.add("enable_ft_dataloader_checkpoints", &Checkpoint::enable_ft_dataloader_checkpoints,
        "Save the data loader of every replica.")
      .inert("acts only with fault_tolerance.enable");
  s.add("folder", &Checkpoint::folder, "Folder of the checkpoints, below job.dump_folder.")
      .not_empty();
  s.add("interval", &Checkpoint::interval, "Steps from one checkpoint to the next.").at_least(1);
  s.add("last_save_model_only", &Checkpoint::last_save_model_only,
        "The last checkpoint holds the model alone, in export_dtype.");
  s.add("last_save_in_hf", &Checkpoint::last_save_in_hf,
        "The last checkpoint is a Hugging Face folder.")
      .only_default();
  s.add("export_dtype", &Checkpoint::export_dtype,
        "Dtype of the last checkpoint, when it holds the model alone.")
      .choices({"float16", "bfloat16", "float32"});
  s.add("async_mode", &Checkpoint::async_mode, "Save while training goes on.")
      .choices({"disabled", "async", "async_with_pinned_mem"})
      .only_default();
  s.add("keep_latest_k", &Checkpoint::keep_latest_k,
        "Checkpoints to keep; 0: all. 1 is refused: a failure while saving could leave none.")
      .at_least(2)
      .or_also(0);
  s.add("enable_first_step_checkpoint", &Checkpoint::enable_first_step_checkpoint,
        "Save after the first step too.");
  s.add("create_seed_checkpoint", &Checkpoint::create_seed_checkpoint,
        "Save the initial model and stop.")
      .only_default(
          "initial weights are the same under any layout, so no seed checkpoint is "
          "needed");
}

void add_load_keys(auto& s) {
  s.add("initial_load_path", &Checkpoint::initial_load_path,
        "Checkpoint to start from when the run's own folder has none.")
      .not_empty();
  s.add("initial_load_model_only", &Checkpoint::initial_load_model_only,
        "Take only the model from initial_load_path.")
      .only_default();
  s.add("initial_load_in_hf", &Checkpoint::initial_load_in_hf,
        "initial_load_path is a Hugging Face folder.");
  s.add("initial_load_in_hf_quantized", &Checkpoint::initial_load_in_hf_quantized,
        "That folder holds quantized weights.")
      .only_default();
  s.add("load_step", &Checkpoint::load_step, "Step to resume from; -1: the latest.")
      .at_least(0)
      .or_also(-1);
  s.add("exclude_from_loading", &Checkpoint::exclude_from_loading, "Parts not to load.")
      .only_default();
  s.add("load_only", &Checkpoint::load_only, "Load, but never save.");
}

ConfigSection checkpoint_section() {
  SectionBuilder s(
      "checkpoint", "Saving and resuming.",
      [](auto& config) -> auto& { return config.checkpoint; });
  add_save_keys(s);
  add_load_keys(s);
  return std::move(s).build();
}

}  // namespace

std::vector<ConfigSection> checkpoint_sections() { return {checkpoint_section()}; }

}  // namespace tessera::configs
