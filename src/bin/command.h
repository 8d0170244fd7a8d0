// What the command groups share: the global options, and the action that the command line names.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "bin/output.h"

namespace CLI {
class App;
}

namespace veneer {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;

struct Context {
  std::string root = "/var/lib/veneer";
  std::string run = "/run/veneer";
  bool json = false;
  bool quiet = false;
  LogLevel log_level = LogLevel::error;

  std::string verb;             // "driver create": for messages
  std::function<int()> action;  // returns the exit status
};

// Each adds its commands to `app`; parsing one of them sets the verb and the action of `context`.
// Both outlive the action.
void add_driver_command(CLI::App& app, Context& context);
void add_layer_command(CLI::App& app, Context& context);
void add_info_command(CLI::App& app, Context& context);
void add_completion_command(CLI::App& app, Context& context);

// A line on standard error if the log level asks for it.
void log(const Context& context, LogLevel level, std::string_view text);
// `path` as seen from "/", without looking at what is there.
std::string absolute(const std::string& path);

}  // namespace veneer
