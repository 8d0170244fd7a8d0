// veneer: the command line.

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/error.h"
#include "bin/command.h"
#include "bin/process.h"
#include "image/lookup.h"

namespace veneer {
namespace {

constexpr std::string_view kLogLevels[] = {"error", "info", "debug"};  // by LogLevel

void add_global_options(CLI::App& app, Context& context) {
  app.add_option("--root", context.root, "Directory of the store")
      ->envname("VENEER_ROOT")
      ->option_text("DIR");
  app.add_option("--run", context.run, "Directory of locks and mount counts")
      ->envname("VENEER_RUN")
      ->option_text("DIR");
  add_choice(app, "--form", context.form, {"packed", "directory"},
             "How the store keeps new layers; by default packed where that works");
  app.add_flag("--volatile", context.is_volatile,
               "Sync nothing: a power cut can lose or damage what the store takes in");
  app.add_flag("--json", context.json, "Print one JSON document");
  app.add_flag("-q,--quiet", context.quiet, "Print results only, no progress");
  const auto set_level = [&context](const std::string& name) {
    const auto* found = std::ranges::find(kLogLevels, name);
    if (found == std::end(kLogLevels)) {
      throw CLI::ValidationError("--log-level", fmt::format("no level is called {}", name));
    }
    context.log_level = static_cast<LogLevel>(found - std::begin(kLogLevels));
  };
  app.add_option_function<std::string>("--log-level", set_level, "error (the default), info, debug")
      ->option_text("LEVEL");
  app.set_version_flag("--version", "veneer " VENEER_VERSION, "Print the version and exit");
}

// "driver create": the commands that were recognised before the parser gave up.
std::string parsed_verb(const CLI::App& app) {
  std::string verb;
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    verb += (verb.empty() ? "" : " ") + at->get_name();
  }
  return verb;
}

int report(std::string_view verb, std::string_view why) {
  print_error(verb.empty() ? std::string(why) : fmt::format("{}: {}", verb, why));
  return kFailed;
}

// What is said of a word where a command is wanted; "" if there is none.
std::string maybe_unknown_command(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  const std::vector<std::string> extra = app.remaining(true);
  if (at->get_require_subcommand_min() == 0 || extra.empty() || extra.front().starts_with('-'))
    return "";
  std::vector<std::string> names;
  for (const CLI::App* command : at->get_subcommands([](const CLI::App*) { return true; }))
    if (!command->get_group().empty()) names.push_back(command->get_name());
  return fmt::format("no command is called {}{}", extra.front(),
                     did_you_mean(extra.front(), names));
}

// The parser looks for what is missing before it looks at what is too much.
std::string why_not_parsed(const CLI::App& app, const CLI::ParseError& error) {
  if (std::string unknown = maybe_unknown_command(app); !unknown.empty()) return unknown;
  const std::vector<std::string> extra = app.remaining(true);
  if (extra.empty()) return error.what();
  return fmt::format("not expected here: {}", extra.front());
}

int report_usage(const CLI::App& app, std::string_view why) {
  const std::string verb = parsed_verb(app);
  const std::string command = verb.empty() ? "veneer" : "veneer " + verb;
  report(verb, fmt::format("{} (see {} --help)", why, command));
  return kUsage;
}

// Help and version are asked for by exceptions of the parser, as errors are.
int run_parsed(CLI::App& app, Context& context, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const std::string unknown = maybe_unknown_command(app);
    if (!unknown.empty()) return report_usage(app, unknown);
    print(app.help());
    return kDone;
  } catch (const CLI::CallForVersion& version) {
    print(fmt::format("{}\n", version.what()));
    return kDone;
  } catch (const CLI::ParseError& error) {
    return report_usage(app, why_not_parsed(app, error));
  }
  return context.action();
}

int run(int argc, char** argv) {
  Context context;
  try {
    prepare_process(fmt::format("veneer: {}", kBusError));
    CLI::App app("Veneer, a container layer store", "veneer");
    app.require_subcommand(1);
    app.fallthrough();
    app.footer(
        "Example:\n  veneer load debian.tar --name debian:12\n"
        "  veneer create debian:12 --name box\n  veneer mount box");
    app.get_formatter()->column_width(28);
    // An alias or a script's options come first, and what is typed after them counts.
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    add_global_options(app, context);
    add_image_commands(app, context);
    add_container_commands(app, context);
    add_store_commands(app, context);
    add_check_command(app, context);
    add_driver_command(app, context);
    add_layer_command(app, context);
    add_info_command(app, context);
    add_completion_command(app, context);
    return run_parsed(app, context, argc, argv);
  } catch (const SysError& error) {
    if (error.error_number() == EPIPE) return kFailed;  // whoever reads has seen enough
    return report(context.verb, error.message());
  } catch (const std::exception& error) {
    return report(context.verb, error.what());
  }
}

}  // namespace
}  // namespace veneer

int main(int argc, char** argv) {
  return veneer::run(argc, argv);
}
