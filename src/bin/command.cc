#include "bin/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <climits>

#include "base/error.h"

namespace veneer {

CLI::App& add_verb(CLI::App& app, Context& context, const VerbHelp& help,
                   std::function<int()> action) {
  CLI::App* command = app.add_subcommand(help.name, help.help);
  command->fallthrough();
  command->footer(fmt::format("Example:\n  {}", help.example));
  command->callback([&context, name = help.name, action = std::move(action)] {
    context.verb = name;
    context.action = action;
  });
  return *command;
}

CLI::Option& add_choice(CLI::App& app, const char* name, std::string& value,
                        std::vector<std::string> choices, const std::string& help) {
  const std::string known = fmt::format("{}", fmt::join(choices, ", "));
  return *app.add_option(name, value, help)
              ->option_text(fmt::format("{}", fmt::join(choices, "|")))
              ->check([known, choices = std::move(choices)](const std::string& text) {
                if (std::ranges::find(choices, text) != choices.end()) return std::string();
                return fmt::format("\"{}\" is none of {}", text, known);
              });
}

void log(const Context& context, LogLevel level, std::string_view text) {
  if (level <= context.log_level) print_error(fmt::format("{}: {}", context.verb, text));
}

std::string absolute(const std::string& path) {
  if (path.starts_with('/')) return path;
  char directory[PATH_MAX];
  if (getcwd(directory, sizeof(directory)) == nullptr) fail_errno(errno, "getcwd");
  return fmt::format("{}/{}", directory, path);
}

int progress_fd(const Context& context) {
  return context.quiet || context.log_level != LogLevel::error ? -1 : STDERR_FILENO;
}

}  // namespace veneer
