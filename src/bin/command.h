// What the command groups share: the global options, and the action that the command line names.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "bin/output.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace veneer {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kDamaged = 3;  // check

struct Context {
  std::string root = "/var/lib/veneer";
  std::string run = "/run/veneer";
  std::string form;  // "packed" or "directory"; "" for what works
  bool is_volatile = false;
  bool json = false;
  bool quiet = false;
  LogLevel log_level = LogLevel::error;

  std::string verb;             // "driver create": for messages
  std::function<int()> action;  // returns the exit status
};

// Each adds its commands to `app`; parsing one of them sets the verb and the action of `context`.
// Both outlive the action.
void add_image_commands(CLI::App& app, Context& context);
void add_container_commands(CLI::App& app, Context& context);
void add_store_commands(CLI::App& app, Context& context);
void add_check_command(CLI::App& app, Context& context);
void add_driver_command(CLI::App& app, Context& context);
void add_layer_command(CLI::App& app, Context& context);
void add_info_command(CLI::App& app, Context& context);
void add_completion_command(CLI::App& app, Context& context);

struct VerbHelp {
  const char* name;
  const char* help;
  const char* example;
};
// Adds one command without subcommands to `app`, in the group of that heading.
CLI::App& add_verb(CLI::App& app, Context& context, const VerbHelp& help,
                   std::function<int()> action);
// An option that takes one of `choices` and nothing else. The help has them as "one|other".
CLI::Option& add_choice(CLI::App& app, const char* name, std::string& value,
                        std::vector<std::string> choices, const std::string& help);

// A line on standard error if the log level asks for it.
void log(const Context& context, LogLevel level, std::string_view text);
// `path` as seen from "/", without looking at what is there.
std::string absolute(const std::string& path);
// Where a Progress goes: standard error, or -1 where lines of a log would mix with it or none is
// wanted.
int progress_fd(const Context& context);

}  // namespace veneer
