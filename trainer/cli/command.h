// A command of the `tessera` program: its name, its options and what it does, in a file of its own
// that gives it to main.cpp as one value (commands.h).
//
//   struct GreetOptions {
//     std::string name;
//     bool loudly = false;
//   };
//   void add_options(CommandLine& line, GreetOptions& options) {
//     line.add_option("name", &options.name, "whom to greet", {.required = true});
//     line.add_flag("--loudly", &options.loudly, "in capitals");
//   }
//   int run(const GreetOptions& options);   // returns an exit status
//   Command greet_command() { return make_command("greet", "say hello", add_options, run); }
//
// Options are checked by the parser as far as their types go; run checks values, does the work and
// writes to stdout. CLI11, which parses, takes seconds to compile: only command.cpp sees it.
//
// Internal to trainer/cli/.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace CLI {
class App;
}

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

// Where the value of an option goes; what is there before is the default. Numbers of a list stand
// between commas.
using OptionTarget = std::variant<std::string*, std::optional<std::string>*, int64_t*,
                                  std::optional<int64_t>*, double*, std::vector<double>*>;

struct OptionTraits {
  std::string value = {};  // what --help calls the value: "N", "FILE"
  bool required = false;
};

// Options that --help lists under a title. Targets must outlive the parsing.
class OptionGroup {
 public:
  explicit OptionGroup(CLI::App& app) : app_(&app) {}

  // names: "--config,--job.config_file", or without dashes for an argument told by its place.
  void add_option(const std::string& names, OptionTarget target, const std::string& help,
                  const OptionTraits& traits = {});

  // An option without a value, which makes the target true.
  void add_flag(const std::string& name, bool* target, const std::string& help);

  void require_one();  // exactly one of the group's options must be given

 protected:
  CLI::App* app_;
};

// The options of a command.
class CommandLine : public OptionGroup {
 public:
  using OptionGroup::OptionGroup;

  OptionGroup add_group(const std::string& title, const std::string& description = "");
  void set_footer(const std::string& text);  // the end of --help

  // Arguments that are none of the options go there, in their order, instead of being refused.
  void keep_unknown(std::vector<std::string>* target);

  // What follows "--" goes there, and is no option of this command, whatever it is.
  void keep_after_dashes(std::vector<std::string>* target);

 private:
  friend class Program;

  std::vector<std::string>* unknown_ = nullptr;
  std::vector<std::string>* after_dashes_ = nullptr;
};

// Returns an exit status: 0, 1 (the run failed), 2 (usage or configuration), or 128 + signal
// (interrupted: 130 for Ctrl-C). Errors are thrown (UsageError and ConfigError for status 2,
// anything else for status 1); main prints their message and returns the status.
using RunCommand = std::function<int()>;

struct Command {
  std::string name;
  std::string description;  // its line in --help

  // Adds the options and returns what is to be run when they have their values.
  std::function<RunCommand(CommandLine&)> add_options;
};

// A command whose options are a struct; its members' initialisers are the defaults.
template <typename Options>
Command make_command(std::string name, std::string description,
                     void (*add_options)(CommandLine&, Options&), int (*run)(const Options&)) {
  const auto add = [add_options, run](CommandLine& line) -> RunCommand {
    const auto options = std::make_shared<Options>();
    add_options(line, *options);
    return [options, run] { return run(*options); };
  };
  return {std::move(name), std::move(description), add};
}

struct ProgramTexts {
  std::string description;  // the first line of --help
  std::string version;      // what --version prints
};

// Parses the command line, runs the command that it names and returns its exit status, also for
// --help, --version and arguments that are not understood, whose message goes to stderr. Throws
// UsageError for an unknown command, and what the command throws.
int run_program(const ProgramTexts& texts, const std::vector<Command>& commands, int argc,
                char** argv);

}  // namespace tessera
