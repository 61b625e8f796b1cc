// [parallelism]
#include "configs/schema/config_fields.h"

namespace tessera::configs {

namespace {

void add_data_and_tensor_keys(auto& s) {
  s.add("data_parallel_replicate_degree", &Parallelism::data_parallel_replicate_degree,
        "Ranks that hold copies of the parameters (DDP; HSDP with data_parallel_shard_degree > 1).")
      .at_least(1);
  s.add("enable_compiled_autograd", &Parallelism::enable_compiled_autograd,
        "TorchTitan: compile the backward pass.")
      .only_default("kernels are compiled ahead of time");
  s.add("data_parallel_shard_degree", &Parallelism::data_parallel_shard_degree,
        "Ranks that share one copy of the parameters (FSDP); -1: all ranks that are left.")
      .at_least(1)
      .or_also(-1);
  s.add("fsdp_reshard_after_forward", &Parallelism::fsdp_reshard_after_forward,
        "Whether gathered parameters are freed between forward and backward; default: all but the "
        "last block's.")
      .choices({"default", "always", "never"});
  s.add("tensor_parallel_degree", &Parallelism::tensor_parallel_degree,
        "Ranks that share every layer.")
      .at_least(1);
  s.add("enable_sequence_parallel", &Parallelism::enable_sequence_parallel,
        "Tessera, as in TorchTitan after v0.2: norms and residuals on each tensor parallel rank's "
        "part of the tokens.");
  s.add("disable_loss_parallel", &Parallelism::disable_loss_parallel,
        "TorchTitan: gather the logits before the loss under tensor parallelism; refused with "
        "tensor_parallel_degree > 1, where the loss never holds whole logits.");
  s.add("enable_async_tensor_parallel", &Parallelism::enable_async_tensor_parallel,
        "Overlap tensor parallel communication with computation.")
      .only_default();
}

void add_pipeline_keys(auto& s) {
  s.add("pipeline_parallel_degree", &Parallelism::pipeline_parallel_degree,
        "Ranks that the layers are divided over.")
      .at_least(1);
  s.add("module_fqns_per_model_part", &Parallelism::module_fqns_per_model_part,
        "Module names of every stage; when unset layers are divided evenly.");
  s.add("pipeline_parallel_first_stage_less_layers",
        &Parallelism::pipeline_parallel_first_stage_less_layers,
        "Layers that the first stage has less, for the embedding.")
      .at_least(0);
  s.add("pipeline_parallel_last_stage_less_layers",
        &Parallelism::pipeline_parallel_last_stage_less_layers,
        "Layers that the last stage has less, for the output layer.")
      .at_least(0);
  s.add("pipeline_parallel_layers_per_stage", &Parallelism::pipeline_parallel_layers_per_stage,
        "Layers per stage.")
      .at_least(1);
  s.add("pipeline_parallel_schedule", &Parallelism::pipeline_parallel_schedule, "Schedule.");
  s.add("pipeline_parallel_schedule_csv", &Parallelism::pipeline_parallel_schedule_csv,
        "File with a schedule of one's own.");
  s.add("pipeline_parallel_microbatch_size", &Parallelism::pipeline_parallel_microbatch_size,
        "Rows of one pipeline microbatch.")
      .at_least(1);
  s.add("pipeline_parallel_expert_parallel_overlap",
        &Parallelism::pipeline_parallel_expert_parallel_overlap,
        "Overlap expert and pipeline communication (DualPipeV).")
      .inert("there are no experts yet");
}

void add_context_and_expert_keys(auto& s) {
  s.add("context_parallel_degree", &Parallelism::context_parallel_degree,
        "Ranks that the sequence is divided over.")
      .at_least(1);
  s.add("context_parallel_load_balancer", &Parallelism::context_parallel_load_balancer,
        "How the sequence is divided; none: in order. Tessera: min_heap, by live pairs, with as "
        "few keys to fetch as can be; document_head_tail, every document by its head and tail, "
        "where all lengths are multiples of twice the degree.")
      .choices({"headtail", "ptrr", "min_heap", "document_head_tail"});
  s.add("context_parallel_rotate_method", &Parallelism::context_parallel_rotate_method,
        "How keys and values travel: all to all ranks, or around in a ring (alltoall). Tessera: "
        "needed_kv, only where the mask needs them; ulysses, heads for tokens.")
      .choices({"allgather", "alltoall", "needed_kv", "ulysses"});
  s.add("expert_parallel_degree", &Parallelism::expert_parallel_degree,
        "Ranks that the experts are divided over.")
      .at_least(1)
      .only_default();
  s.add("expert_tensor_parallel_degree", &Parallelism::expert_tensor_parallel_degree,
        "Ranks that share every expert.")
      .at_least(1)
      .only_default();
  s.add("expert_parallel_comm_backend", &Parallelism::expert_parallel_comm_backend,
        "How tokens travel to their experts.")
      .choices({"standard", "deepep"})
      .inert("acts only with expert_parallel_degree > 1");
}

ConfigSection parallelism_section() {
  SectionBuilder s(
      "parallelism",
      "How the work is divided over ranks; the product of the degrees is their number.",
      [](auto& config) -> auto& { return config.parallelism; });
  add_data_and_tensor_keys(s);
  add_pipeline_keys(s);
  add_context_and_expert_keys(s);
  return std::move(s).build();
}

}  // namespace

std::vector<ConfigSection> parallelism_sections() { return {parallelism_section()}; }

}  // namespace tessera::configs
