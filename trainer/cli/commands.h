// The commands of the `tessera` program. Each returns an exit status: 0, 1 (the run failed), 2
// (usage or configuration), 128 + signal (interrupted: 130 for Ctrl-C). Errors are thrown and
// turned into a message and a status by main.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "trainer/launch/environment.h"
#include "trainer/pictures/layout_flags.h"

namespace tessera {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

// The command line cannot be used: exit status 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// overrides: what followed --config on the command line, in the forms of configs/load_config.h.
int train_command(const std::string& config_path, const std::vector<std::string>& overrides,
                  const RankFlags& rank_flags);

struct LaunchCommandOptions {
  int64_t nproc = 1;
  int64_t max_restarts = 0;
  int64_t nnodes = 1;
  int64_t node_rank = 0;
  std::optional<std::string> master_address{};  // 127.0.0.1 with one node
  int64_t master_port = 0;                      // 0: any free one
  std::vector<std::string> command{};           // of this program, such as train --config ...
};

int launch_command(const LaunchCommandOptions& options);

struct EstimateCommandOptions {
  int64_t num_ranks = 1;
  std::optional<std::string> documents{};  // a JSON file (trainer/estimate/document_rows.h)
  bool json = false;
};

int estimate_command(const std::string& config_path, const std::vector<std::string>& overrides,
                     const EstimateCommandOptions& options);

enum class ConfigView { kPrint, kSchema, kMarkdown };
int config_command(ConfigView view, const std::string& config_path,
                   const std::vector<std::string>& overrides);

// Numbers are read by the command, which names the flag in its errors.
struct MaskCommandOptions {
  std::string rule;
  LayoutFlags layout{};
  std::optional<std::string> block{};  // one size, or q,kv
  std::optional<std::string> q_tokens{};
  std::optional<std::string> q_offset{};
  std::optional<std::string> kv_offset{};
  std::optional<std::string> row{};  // show only this row of the batch
  std::optional<std::string> svg{};  // a file
  bool json = false;                 // instead of the picture
  bool estimate = false;
};

int mask_command(const MaskCommandOptions& options);

struct AttentionCommandOptions {
  std::string custom_import;  // as experimental.custom_import
  bool json = false;
};

// Lists attention backends, mask forms and mask rules.
int attention_command(const AttentionCommandOptions& options);

struct ScheduleCommandOptions {
  std::optional<std::string> schedule{};  // a name; 1F1B
  std::optional<int64_t> num_ranks{};
  std::optional<int64_t> num_microbatches{};
  std::optional<int64_t> stages_per_rank{};
  std::optional<std::string> csv{};  // a file, instead of the above
  std::vector<double> costs{};       // F,B or F,B,I,W
  double transfer = 0;
  std::optional<std::string> svg{};        // a file
  std::optional<std::string> write_csv{};  // a file
  bool json = false;                       // instead of the timeline
};

int schedule_command(const ScheduleCommandOptions& options);

}  // namespace tessera
