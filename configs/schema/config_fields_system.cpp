// [comm], [memory_estimation], [fault_tolerance], [experimental], [validation], [debug]
#include "configs/schema/config_fields.h"

namespace tessera::configs {

namespace {

const char* const kNoRecorder = "there is no flight recorder; a lost rank is named by the error";

ConfigSection comm_section() {
  SectionBuilder s(
      "comm", "Communication between ranks.", [](auto& config) -> auto& { return config.comm; });
  s.add("init_timeout_seconds", &Comm::init_timeout_seconds,
        "Limit for a collective during start-up and the first step.")
      .at_least(1);
  s.add("train_timeout_seconds", &Comm::train_timeout_seconds,
        "Limit for a collective after the first step.")
      .at_least(1);
  s.add("grace_seconds", &Comm::grace_seconds,
        "Tessera: after a failure, how long a rank may give no sign of life until it is named as "
        "lost.")
      .at_least(1);
  s.add("trace_buf_size", &Comm::trace_buf_size, "Collectives kept by the flight recorder.")
      .at_least(0)
      .inert(kNoRecorder);
  s.add("save_traces_folder", &Comm::save_traces_folder, "Folder of the recorder's traces.")
      .inert(kNoRecorder);
  s.add("save_traces_file_prefix", &Comm::save_traces_file_prefix, "Their names, before the rank.")
      .inert(kNoRecorder);
  s.add("mode", &Comm::mode, "Real communication, or a dry run without it.")
      .choices({"default", "fake_backend", "local_tensor"})
      .only_default();
  return std::move(s).build();
}

ConfigSection memory_estimation_section() {
  SectionBuilder s(
      "memory_estimation", "Memory of a layout before it is launched.",
      [](auto& config) -> auto& { return config.memory_estimation; });
  s.add("enable", &MemoryEstimation::enable, "Estimate instead of training.").only_default();
  s.add("disable_fake_mode", &MemoryEstimation::disable_fake_mode,
        "TorchTitan: estimate with real tensors.")
      .inert("acts only with enable");
  return std::move(s).build();
}

ConfigSection fault_tolerance_section() {
  SectionBuilder s(
      "fault_tolerance", "Training that goes on when ranks fail.",
      [](auto& config) -> auto& { return config.fault_tolerance; });
  const char* const off = "acts only with enable";
  s.add("enable", &FaultTolerance::enable, "Tolerate failures.").only_default();
  s.add("process_group", &FaultTolerance::process_group, "Backend between replicas.").inert(off);
  s.add("process_group_timeout_ms", &FaultTolerance::process_group_timeout_ms, "Its time limit.")
      .at_least(1)
      .inert(off);
  s.add("replica_id", &FaultTolerance::replica_id, "This replica.").at_least(0).inert(off);
  s.add("group_size", &FaultTolerance::group_size, "Replicas in all.").at_least(0).inert(off);
  s.add("min_replica_size", &FaultTolerance::min_replica_size, "Replicas needed to go on.")
      .at_least(1)
      .inert(off);
  s.add("semi_sync_method", &FaultTolerance::semi_sync_method, "Method of rare synchronisation.")
      .choices({"local_sgd", "diloco"})
      .inert(off);
  return std::move(s).build();
}

ConfigSection experimental_section() {
  SectionBuilder s(
      "experimental", "Extensions from outside of the tree.",
      [](auto& config) -> auto& { return config.experimental; });
  s.add("custom_import", &Experimental::custom_import,
        "Shared library with attention functions, mask rules, mask forms or tokenizers to load "
        "before the run starts, such as `./libmine.so`; several are separated by commas.")
      .also_takes_list();
  s.add("custom_args_module", &Experimental::custom_args_module,
        "TorchTitan: old name of job.custom_config_module.")
      .only_default("there is no Python to import");
  return std::move(s).build();
}

const char* const kNoValidation = "acts only with validation.enable";

ConfigSection validation_section() {
  SectionBuilder s(
      "validation", "Loss on held-out data during the run.",
      [](auto& config) -> auto& { return config.validation; });
  s.add("enable", &Validation::enable, "Validate.").only_default();
  s.add("dataset", &Validation::dataset, "As training.dataset.").inert(kNoValidation);
  s.add("dataset_path", &Validation::dataset_path, "As training.dataset_path.")
      .also_takes_list()
      .inert(kNoValidation);
  s.add("local_batch_size", &Validation::local_batch_size, "Rows per microbatch and rank.")
      .at_least(1)
      .inert(kNoValidation);
  s.add("seq_len", &Validation::seq_len, "Tokens per row.").at_least(1).inert(kNoValidation);
  s.add("freq", &Validation::freq, "Training steps between two validations.")
      .at_least(1)
      .inert(kNoValidation);
  s.add("steps", &Validation::steps, "Batches per validation; -1: all data.")
      .at_least(1)
      .or_also(-1)
      .inert(kNoValidation);
  return std::move(s).build();
}

ConfigSection validation_dataloader_section() {
  SectionBuilder s(
      "validation.dataloader", "TorchTitan v0.2.2: as training.dataloader.",
      [](auto& config) -> auto& { return config.validation.dataloader; });
  s.add("num_workers", &DataLoaderSection::num_workers, "Worker processes.")
      .at_least(0)
      .inert(kNoValidation);
  s.add("persistent_workers", &DataLoaderSection::persistent_workers,
        "Keep workers from epoch to epoch.")
      .inert(kNoValidation);
  s.add("pin_memory", &DataLoaderSection::pin_memory, "Put batches in pinned host memory.")
      .inert(kNoValidation);
  s.add("prefetch_factor", &DataLoaderSection::prefetch_factor, "Batches ahead per worker.")
      .at_least(1)
      .inert(kNoValidation);
  return std::move(s).build();
}

ConfigSection debug_section() {
  SectionBuilder s(
      "debug",
      "TorchTitan v0.2.2's place for the seed; [training] takes the same keys. A key "
      "given in both must have one value.",
      [](auto& config) -> auto& { return config.debug; });
  s.add("seed", &Debug::seed, "Same as training.seed.").at_least(0);
  s.add("deterministic", &Debug::deterministic, "Same as training.deterministic.")
      .inert("runs are always deterministic");
  s.add("deterministic_warn_only", &Debug::deterministic_warn_only,
        "TorchTitan: warn about operators that are not deterministic instead of refusing them.")
      .inert("runs are always deterministic");
  s.add("moe_force_load_balance", &Debug::moe_force_load_balance,
        "Give every expert the same number of tokens.")
      .only_default("there are no experts yet");
  return std::move(s).build();
}

}  // namespace

std::vector<ConfigSection> system_sections() {
  return {comm_section(),         memory_estimation_section(), fault_tolerance_section(),
          experimental_section(), validation_section(),        validation_dataloader_section(),
          debug_section()};
}

}  // namespace tessera::configs
