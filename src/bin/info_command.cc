// veneer info: the version, the directories, and what this system can do.

#include <sys/utsname.h>

#include <CLI/CLI.hpp>

#include "base/at.h"
#include "base/error.h"
#include "bin/command.h"
#include "bin/json_out.h"
#include "graphdriver/registry.h"
#include "mount/features.h"

namespace veneer {
namespace {

// The store's root, or before there is one the nearest directory above it: it is on the file system
// that the root will be on.
std::string existing_directory(std::string path) {
  while (path.size() > 1 && access(path.c_str(), F_OK) != 0) {
    path.erase(std::max<size_t>(path.find_last_of('/'), 1));
  }
  return path;
}

std::string kernel_release() {
  utsname name{};
  check(uname(&name), "uname");
  return name.release;
}

struct Info {
  std::string root;
  std::string run;
  std::string kernel;
  std::string form;  // of new layers
  std::string why_not_packed;
  std::string probed_in;
  std::vector<Probe> probes;
};

// As a store in this root would choose it.
void find_form(const Context& context, Info& info) {
  const Probe packed = probe_packed(open_root(info.probed_in).get());
  info.why_not_packed = packed.why_not;
  info.form = packed.works ? "packed" : "directory";
  if (!context.form.empty()) info.form = context.form;
}

std::string to_text(const Info& info) {
  std::string drivers;
  for (const DriverFactory& factory : driver_factories()) {
    drivers += fmt::format("{}{}", drivers.empty() ? "" : ", ", factory.name);
  }
  Table facts;
  facts.row({"version", VENEER_VERSION});
  facts.row({"kernel", info.kernel});
  facts.row({"root", info.root});
  facts.row({"run", info.run});
  facts.row({"drivers", drivers});
  const std::string why =
      info.why_not_packed.empty() ? "" : fmt::format(" (not packed: {})", info.why_not_packed);
  facts.row({"new layers", info.form + why});
  facts.row({"probed in", info.probed_in});
  Table features;
  features.row({"FEATURE", "WORKS", "FOR"});
  for (const Probe& probe : info.probes) {
    const std::string missing = probe.works ? "" : fmt::format(" ({})", probe.why_not);
    features.row({probe.name, probe.works ? "yes" : "no", probe.enables + missing});
  }
  return facts.text() + "\n" + features.text();
}

std::string to_json(const Info& info) {
  JsonOut json;
  json.begin_object().key("version").string(VENEER_VERSION).key("kernel").string(info.kernel);
  json.key("root").string(info.root).key("run").string(info.run).key("drivers").begin_array();
  for (const DriverFactory& factory : driver_factories()) json.string(factory.name);
  json.end_array().key("form").string(info.form);
  json.key("why_not_packed")
      .string(info.why_not_packed)
      .key("probed_in")
      .string(info.probed_in)
      .key("features")
      .begin_array();
  for (const Probe& probe : info.probes) {
    json.begin_object().key("name").string(probe.name).key("works").boolean(probe.works);
    json.key("enables").string(probe.enables).key("why_not").string(probe.why_not).end_object();
  }
  json.end_array().end_object();
  return json.text() + "\n";
}

int show_info(const Context& context) {
  Info info{.root = absolute(context.root),
            .run = absolute(context.run),
            .kernel = kernel_release(),
            .form = {},
            .why_not_packed = {},
            .probed_in = {},
            .probes = {}};
  info.probed_in = existing_directory(info.root);
  find_form(context, info);
  info.probes = probe_features(open_root(info.probed_in).get());
  print(context.json ? to_json(info) : to_text(info));
  return kDone;
}

}  // namespace

void add_info_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("info", "The version, the directories, and what this system can do");
  command->fallthrough();
  command->footer("Example:\n  veneer info\n  veneer --json info");
  command->callback([&context] {
    context.verb = "info";
    context.action = [&context] { return show_info(context); };
  });
}

}  // namespace veneer
