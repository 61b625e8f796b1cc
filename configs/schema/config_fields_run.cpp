// [job], [profiling], [metrics]
#include "configs/schema/config_fields.h"

namespace tessera::configs {

namespace {

ConfigSection job_section() {
  SectionBuilder s(
      "job", "What the run is called and where its files go.",
      [](auto& config) -> auto& { return config.job; });
  s.add("config_file", &JobSection::config_file,
        "The TOML file that the run was started with; filled in on loading.");
  s.add("dump_folder", &JobSection::dump_folder, "Folder for everything the run writes.")
      .not_empty();
  s.add("description", &JobSection::description, "Free text, shown in the start banner.");
  s.add("print_config", &JobSection::print_config, "Print the resolved configuration at start.");
  s.add("save_config_file", &JobSection::save_config_file,
        "File name, below dump_folder, for the resolved configuration.");
  s.add("custom_config_module", &JobSection::custom_config_module,
        "TorchTitan: a Python module that extends the configuration.")
      .only_default("there is no Python to import");
  return std::move(s).build();
}

ConfigSection profiling_section() {
  SectionBuilder s(
      "profiling", "Traces of steps and of memory.",
      [](auto& config) -> auto& { return config.profiling; });
  s.add("enable_profiling", &Profiling::enable_profiling,
        "Record a Kineto trace per rank of the last steps of every profile_freq.");
  s.add("save_traces_folder", &Profiling::save_traces_folder,
        "Folder of the traces, below dump_folder.");
  s.add("profile_freq", &Profiling::profile_freq, "Steps from one trace to the next.").at_least(1);
  s.add("profiler_active", &Profiling::profiler_active, "Steps recorded per trace.").at_least(1);
  s.add("profiler_warmup", &Profiling::profiler_warmup, "Steps of warm-up before each trace.")
      .at_least(0)
      .inert("recording needs none");
  s.add("enable_memory_snapshot", &Profiling::enable_memory_snapshot, "Record memory snapshots.")
      .only_default();
  s.add("save_memory_snapshot_folder", &Profiling::save_memory_snapshot_folder,
        "Folder of the snapshots.")
      .inert("acts only with enable_memory_snapshot");
  return std::move(s).build();
}

ConfigSection metrics_section() {
  SectionBuilder s(
      "metrics", "What is logged, and how often.",
      [](auto& config) -> auto& { return config.metrics; });
  s.add("log_freq", &Metrics::log_freq,
        "Steps between two metric lines on the console; metrics.jsonl has every step.")
      .at_least(1);
  s.add("enable_tensorboard", &Metrics::enable_tensorboard, "Write TensorBoard events.")
      .only_default("metrics.jsonl and loss.svg are always written");
  s.add("disable_color_printing", &Metrics::disable_color_printing,
        "Console output without colours.");
  s.add("save_tb_folder", &Metrics::save_tb_folder, "Folder of the TensorBoard events.")
      .inert("acts only with enable_tensorboard");
  s.add("save_for_all_ranks", &Metrics::save_for_all_ranks, "Metrics of every rank, not only of 0.")
      .only_default("rank 0 alone writes metrics");
  s.add("enable_wandb", &Metrics::enable_wandb, "Send metrics to Weights & Biases.")
      .only_default("metrics.jsonl and loss.svg are always written");
  return std::move(s).build();
}

}  // namespace

std::vector<ConfigSection> run_sections() {
  return {job_section(), profiling_section(), metrics_section()};
}

}  // namespace tessera::configs
