// The commands of the `tessera` program, each as a function of its parsed command line. main.cpp
// parses; the commands check values, do the work and write to stdout.
//
// A command returns an exit status: 0, 1 (the run failed), 2 (usage or configuration), or
// 128 + signal (interrupted: 130 for Ctrl-C). Errors are thrown (UsageError and ConfigError for
// status 2, anything else for status 1); main prints their message and returns the status.
//
// Internal to trainer/cli/.
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

// The command line cannot be used: exit status 2. The message names the flag, what was got and what
// is expected.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Trains a job on this rank. overrides: the arguments that main does not know, in the forms of
// load_config (configs/load_config.h). rank_flags: as given; without them the environment says
// which rank this is.
int train_command(const std::string& config_path, const std::vector<std::string>& overrides,
                  const RankFlags& rank_flags);

struct LaunchCommandOptions {
  int64_t nproc = 1;  // ranks of this machine
  int64_t max_restarts = 0;
  int64_t nnodes = 1;  // machines
  int64_t node_rank = 0;
  std::optional<std::string> master_address{};  // of node 0; 127.0.0.1 with one node
  int64_t master_port = 0;                      // 0: any free one, with one node only
  std::vector<std::string> command{};           // of this program, such as train --config ...
};

// Starts the ranks of this machine and waits for them (trainer/launch/launcher.h). Node 0 serves
// the store at which they meet.
int launch_command(const LaunchCommandOptions& options);

struct EstimateCommandOptions {
  int64_t num_ranks = 1;
  std::optional<std::string> documents{};  // a JSON file (trainer/estimate/document_rows.h)
  bool json = false;
};

// Prints what the job needs of each rank on num_ranks ranks (trainer/estimate/estimate.h), as text
// or JSON.
int estimate_command(const std::string& config_path, const std::vector<std::string>& overrides,
                     const EstimateCommandOptions& options);

// What `tessera config` prints: the resolved configuration as TOML, the schema of all keys as JSON,
// or the page docs/configuration.md. Only kPrint reads the path and the overrides.
enum class ConfigView { kPrint, kSchema, kMarkdown };
int config_command(ConfigView view, const std::string& config_path,
                   const std::vector<std::string>& overrides);

// Numbers are texts here: the command reads them, and names the flag in its errors.
struct MaskCommandOptions {
  std::string rule;  // in the notation of docs/masks.md
  LayoutFlags layout{};
  std::optional<std::string> block{};     // tile size in tokens: one number, or q,kv
  std::optional<std::string> q_tokens{};  // queries, MaskViewOptions::num_queries
  std::optional<std::string> q_offset{};
  std::optional<std::string> kv_offset{};
  std::optional<std::string> row{};  // show only this row of the batch
  std::optional<std::string> svg{};  // a file
  bool json = false;                 // instead of the picture
  bool estimate = false;             // adds what forms of the mask take in memory
};

// Shows a mask as a picture, JSON or an SVG file (trainer/pictures/mask_view.h).
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
  std::optional<std::string> csv{};        // a file, instead of the above
  std::vector<double> costs{};             // F,B or F,B,I,W, in any unit of time
  double transfer = 0;                     // from one rank to another, in that unit
  std::optional<std::string> svg{};        // a file
  std::optional<std::string> write_csv{};  // a file
  bool json = false;                       // instead of the timeline
};

// Checks, simulates and draws a pipeline schedule (trainer/pictures/draw_schedule.h).
int schedule_command(const ScheduleCommandOptions& options);

}  // namespace tessera
