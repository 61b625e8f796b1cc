#include "trainer/cli/command.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstring>
#include <deque>

namespace tessera {

void OptionGroup::add_option(const std::string& names, OptionTarget target, const std::string& help,
                             const OptionTraits& traits) {
  CLI::Option* option =
      std::visit([&](auto* value) { return app_->add_option(names, *value, help); }, target);
  if (std::holds_alternative<std::vector<double>*>(target)) option->delimiter(',');
  if (!traits.value.empty()) option->type_name(traits.value);
  option->required(traits.required);
}

void OptionGroup::add_flag(const std::string& name, bool* target, const std::string& help) {
  app_->add_flag(name, *target, help);
}

void OptionGroup::require_one() { app_->require_option(1); }

OptionGroup CommandLine::add_group(const std::string& title, const std::string& description) {
  return OptionGroup(*app_->add_option_group(title, description));
}

void CommandLine::set_footer(const std::string& text) { app_->footer(text); }

void CommandLine::keep_unknown(std::vector<std::string>* target) {
  app_->allow_extras();
  unknown_ = target;
}

void CommandLine::keep_after_dashes(std::vector<std::string>* target) { after_dashes_ = target; }

// A parser with all commands.
class Program {
 public:
  Program(const ProgramTexts& texts, const std::vector<Command>& commands)
      : app_(texts.description) {
    app_.set_version_flag("--version", texts.version);
    app_.require_subcommand(1);
    for (const Command& command : commands) {
      CommandLine& line =
          lines_.emplace_back(*app_.add_subcommand(command.name, command.description));
      runs_.push_back(command.add_options(line));
    }
  }

  int run(int argc, char** argv) {
    const std::string name = argc > 1 ? argv[1] : "-";
    if (!name.starts_with('-')) take_after_dashes(line_of(name), argc, argv);
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app_.exit(error) == 0 ? kExitOk : kExitUsage;
    }
    size_t given = 0;
    while (!lines_[given].app_->parsed()) ++given;
    const CommandLine& line = lines_[given];
    if (line.unknown_ != nullptr) *line.unknown_ = line.app_->remaining();
    return runs_[given]();
  }

 private:
  // Throws UsageError when `name` is no command.
  CommandLine& line_of(const std::string& name) {
    std::string names;
    for (CommandLine& line : lines_) {
      if (line.app_->check_name(name)) return line;
      names += (names.empty() ? "" : ", ") + line.app_->get_name();
    }
    throw UsageError("unknown command \"" + name + "\"; expected one of " + names);
  }

  // Takes the arguments after "--" off the command line for a command that keeps them: CLI11 would
  // give them back to the main program's options.
  static void take_after_dashes(CommandLine& line, int& argc, char** argv) {
    if (line.after_dashes_ == nullptr) return;
    char** end = argv + argc;
    char** dashes = std::find_if(argv, end, [](const char* text) { return !strcmp(text, "--"); });
    if (dashes == end) return;
    line.after_dashes_->assign(dashes + 1, end);
    argc = static_cast<int>(dashes - argv);
  }

  CLI::App app_;
  std::deque<CommandLine> lines_;  // of the commands, in their order
  std::vector<RunCommand> runs_;
};

int run_program(const ProgramTexts& texts, const std::vector<Command>& commands, int argc,
                char** argv) {
  return Program(texts, commands).run(argc, argv);
}

}  // namespace tessera
