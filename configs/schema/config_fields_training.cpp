// [training], [training.dataloader]
#include "configs/schema/config_fields.h"

namespace tessera::configs {

namespace {

void add_data_keys(auto& s) {
  s.add("dataset", &Training::dataset,
        "text_files: every file is a document. jsonl: every line is a document, in its field "
        "`text`. c4 and c4_test are read as jsonl. All need dataset_path.")
      .choices({"text_files", "jsonl", "c4", "c4_test"});
  s.add("dataset_path", &Training::dataset_path,
        "Folder, file or glob; several as a comma-separated string or a TOML list. Nothing is "
        "downloaded.")
      .not_empty()
      .also_takes_list();
  s.add("dataset_shuffle", &Training::dataset_shuffle,
        "Tessera: visit the documents in an order drawn from the seed, new in every epoch.");
  s.add("invalid_utf8", &Training::invalid_utf8,
        "Tessera: what becomes of bytes that are not UTF-8: replaced by U+FFFD and counted, or "
        "the run stops.")
      .choices({"replace", "refuse"});
}

void add_batch_keys(auto& s) {
  s.add("local_batch_size", &Training::local_batch_size, "Rows per microbatch and rank.")
      .at_least(1);
  s.add("global_batch_size", &Training::global_batch_size,
        "Rows per optimizer step over all ranks, a multiple of local_batch_size; -1: one "
        "microbatch per rank. More microbatches are accumulated.")
      .at_least(1)
      .or_also(-1);
  s.add("seq_len", &Training::seq_len, "Tokens per row.").at_least(1);
  s.add("max_norm", &Training::max_norm, "Norm of all gradients above which they are scaled down.")
      .above(0);
  s.add("steps", &Training::steps, "Optimizer steps of the run.").at_least(1);
}

void add_precision_keys(auto& s) {
  s.add("enable_cpu_offload", &Training::enable_cpu_offload,
        "Keep parameters, gradients and optimizer state in host memory; changes nothing where the "
        "model computes on the CPU.");
  s.add("dtype", &Training::dtype, "Dtype of the parameters that the optimizer updates.")
      .choices({"bfloat16", "float32"});
  s.add("mixed_precision_param", &Training::mixed_precision_param,
        "Dtype of forward and backward, under any layout.")
      .choices({"bfloat16", "float32"});
  s.add("mixed_precision_reduce", &Training::mixed_precision_reduce,
        "Dtype in which gradients are summed.")
      .choices({"float32"});
}

void add_debug_keys(auto& s) {
  s.add("gc_freq", &Training::gc_freq, "TorchTitan: steps between Python's garbage collections.")
      .inert("there is no Python garbage collector");
  s.add("gc_debug", &Training::gc_debug, "TorchTitan: debugging of Python's garbage collection.")
      .only_default("there is no Python garbage collector");
  s.add("seed", &Training::seed, "Seed of initialisation and data order.").at_least(0);
  s.add("deterministic", &Training::deterministic, "Deterministic operators only.")
      .inert("runs are always deterministic");
  s.add("debug_moe_force_load_balance", &Training::debug_moe_force_load_balance,
        "Give every expert the same number of tokens.")
      .only_default("there are no experts yet");
}

ConfigSection training_section() {
  SectionBuilder s(
      "training", "Data, batch, length of the run and precision.",
      [](auto& config) -> auto& { return config.training; });
  add_data_keys(s);
  add_batch_keys(s);
  add_precision_keys(s);
  add_debug_keys(s);
  return std::move(s).build();
}

ConfigSection dataloader_section() {
  SectionBuilder s(
      "training.dataloader", "TorchTitan v0.2.2: worker processes of the data loader.",
      [](auto& config) -> auto& { return config.training.dataloader; });
  const char* const why = "data is read by the training process";
  s.add("num_workers", &DataLoaderSection::num_workers, "Worker processes.")
      .at_least(0)
      .only_default(why);
  s.add("persistent_workers", &DataLoaderSection::persistent_workers,
        "Keep workers from epoch to epoch.")
      .only_default(why);
  s.add("pin_memory", &DataLoaderSection::pin_memory, "Put batches in pinned host memory.")
      .only_default();
  s.add("prefetch_factor", &DataLoaderSection::prefetch_factor, "Batches ahead per worker.")
      .at_least(1)
      .only_default(why);
  return std::move(s).build();
}

}  // namespace

std::vector<ConfigSection> training_sections() {
  return {training_section(), dataloader_section()};
}

}  // namespace tessera::configs
