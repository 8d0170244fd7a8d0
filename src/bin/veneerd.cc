// veneerd: the daemon. It serves containerd and Docker from a store.

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>

#include "base/error.h"
#include "base/fd.h"
#include "bin/command.h"
#include "bin/process.h"
#include "graphdriver/trash_thread.h"
#include "rpc/apply_layer.h"
#include "rpc/diff_service.h"
#include "rpc/known_layer.h"
#include "rpc/log.h"
#include "rpc/metrics.h"
#include "rpc/metrics_server.h"
#include "rpc/pack_on_commit.h"
#include "rpc/plugin_service.h"
#include "rpc/remap.h"
#include "rpc/server.h"
#include "rpc/snapshots_service.h"
#include "rpc/socket.h"
#include "store/store.h"

namespace veneer {
namespace {

constexpr std::string_view kLogLevels[] = {"error", "info", "debug"};  // by Log::Level
constexpr std::string_view kSpace = "containerd";
// How long calls may take to come to their end after SIGTERM; systemd kills after 90 s.
constexpr std::chrono::seconds kPatience(30);

struct Settings {
  std::string root = "/var/lib/veneer";
  std::string run = "/run/veneer";
  std::string snapshotter;
  std::string docker_plugin;
  std::string driver;
  std::string home;
  std::string containerd;
  std::string content_dir;
  std::string form;
  std::string metrics;
  std::string log_level = "info";
  bool is_volatile = false;
  bool pack_on_commit = false;
  bool remap_ids = false;
};

void add_options(CLI::App& app, Settings& settings) {
  app.set_config("--config", "", "A file of these options, NAME = VALUE on a line each")
      ->option_text("FILE");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.add_option("--root", settings.root, "Directory of the store")
      ->envname("VENEER_ROOT")
      ->option_text("DIR");
  app.add_option("--run", settings.run, "Directory of locks and mounts")
      ->envname("VENEER_RUN")
      ->option_text("DIR");
  app.add_option(
         "--snapshotter", settings.snapshotter,
         "Where containerd's proxy snapshotter is served: unix:///run/veneer/containerd.sock")
      ->option_text("unix://PATH");
  app.add_option("--docker-plugin", settings.docker_plugin,
                 "Where Docker's graph-driver plugin is served: "
                 "unix:///run/docker/plugins/veneer.sock")
      ->option_text("unix://PATH");
  add_choice(app, "--driver", settings.driver, {"veneer", "overlay"},
             "Which driver the plugin is, veneer by default");
  app.add_option("--home", settings.home,
                 "Directory of that driver; by default what Docker says, DATA-ROOT/NAME")
      ->option_text("DIR");
  app.add_option("--containerd", settings.containerd,
                 "containerd's own socket, where the differ reads and writes blobs")
      ->option_text("ADDRESS");
  app.add_option("--content-dir", settings.content_dir,
                 "Directory of containerd's blobs, read as files: "
                 "/var/lib/containerd/io.containerd.content.v1.content")
      ->option_text("DIR");
  add_choice(app, "--form", settings.form, {"packed", "directory"},
             "How the store keeps new layers; by default packed where that works");
  app.add_flag("--volatile", settings.is_volatile,
               "Sync nothing: a power cut can lose or damage what the store takes in");
  app.add_flag("--pack-on-commit", settings.pack_on_commit,
               "Pack what clients extracted themselves, when they commit it");
  app.add_flag("--remap-ids", settings.remap_ids,
               "Map the ids of layers for user namespaces: for containerd's \"remap-ids\"");
  app.add_option("--metrics", settings.metrics,
                 "Where Prometheus finds metrics, at /metrics: 127.0.0.1:9417")
      ->option_text("ADDRESS:PORT");
  add_choice(app, "--log-level", settings.log_level, {"error", "info", "debug"},
             "What is logged, info by default");
  app.set_version_flag("--version", "veneerd " VENEER_VERSION, "Print the version and exit");
}

Log::Level log_level(const Settings& settings) {
  const auto* found = std::ranges::find(kLogLevels, settings.log_level);
  return static_cast<Log::Level>(found - std::begin(kLogLevels));
}

StoreOptions store_options(const Settings& settings) {
  StoreOptions options{.root = absolute(settings.root),
                       .run = absolute(settings.run),
                       .is_volatile = settings.is_volatile,
                       .leaves_trash = true,
                       .form = {}};
  if (!settings.form.empty())
    options.form = settings.form == "packed" ? Form::packed : Form::directory;
  return options;
}

// The signals that end the daemon. They wait, in every thread that is made later, to be asked for.
sigset_t hold_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

void prepare_daemon() {
  prepare_process(
      log_line(Log::Level::error, {{"event", "failed"}, {"error", std::string(kBusError)}}));
  // Nobody reloads anything: a terminal that closes, or a habit, is no reason to end.
  (void)std::signal(SIGHUP, SIG_IGN);
  // Modes are those that are asked for, in a container's directories above all.
  ::umask(0);
}

// Tells systemd (sd_notify(3)): a datagram to the socket in the environment, an abstract one if its
// name starts with '@'. Where nobody asked or listens, nothing.
void notify(std::string_view state) {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path == nullptr || *path == '\0' || std::strlen(path) >= sizeof(address.sun_path)) return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, std::strlen(path));
  if (*path == '@') address.sun_path[0] = '\0';
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  // The kernel's interface takes every kind of address as a sockaddr.
  const auto* const any = reinterpret_cast<const sockaddr*>(&address);
  (void)::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL, any, size);
}

// The store's snapshotter with what was asked for around it.
class Snapshotters {
 public:
  Snapshotters(const Settings& settings, Store& store, const Log& log,
               const std::function<void()>& on_removed)
      : plain_(open_snapshotter(store, kSpace)) {
    if (settings.pack_on_commit) packing_.emplace(top(), store, kSpace, log, on_removed);
    if (settings.remap_ids) remapping_.emplace(top(), store, kSpace);
  }
  Snapshotter& top() {
    if (remapping_) return *remapping_;
    if (packing_) return *packing_;
    return *plain_;
  }

 private:
  std::unique_ptr<Snapshotter> plain_;
  std::optional<PackOnCommit> packing_;
  std::optional<RemappingSnapshotter> remapping_;
};

std::vector<RpcService> make_services(const Settings& settings, Store& store,
                                      Snapshotter& snapshotter, const Observer& observer,
                                      const std::function<void()>& on_removed) {
  SnapshotsOptions snapshots{.on_removed = on_removed};
  snapshots.add_known_layer = [&store](std::string_view parent, const Labels& labels) {
    return maybe_add_known_layer(store, kSpace, parent, labels);
  };
  snapshots.attach_known_layer = [&store](std::string_view key) {
    attach_known_layer(store, kSpace, key);
  };
  const std::string content_dir =
      settings.content_dir.empty() ? "" : absolute(settings.content_dir);
  return {make_snapshots_service(snapshotter, std::move(snapshots), observer),
          make_diff_service(store,
                            {.space = std::string(kSpace),
                             .containerd = settings.containerd,
                             .content_dir = content_dir,
                             .on_removed = on_removed},
                            observer)};
}

// containerd's side: a store, and its services on a socket.
class Containerd {
 public:
  Containerd(const Settings& settings, const Log& log, Metrics& metrics)
      : store_(store_options(settings)),
        trash_(store_.layout()),
        snapshotters_(settings, store_, log, [this] { trash_.wake(); }),
        server_(socket_path(settings.snapshotter),
                make_services(settings, store_, snapshotters_.top(), {log, &metrics},
                              [this] { trash_.wake(); })) {
    trash_.wake();  // what is there from the last time
  }
  Store& store() { return store_; }
  void drain() { server_.drain(kPatience); }

 private:
  Store store_;
  TrashThread trash_;
  Snapshotters snapshotters_;
  RpcServer server_;
};

// Docker's side: a graph driver on a socket.
class DockerPlugin {
 public:
  DockerPlugin(const Settings& settings, const Log& log, Metrics& metrics)
      : path_(socket_path(settings.docker_plugin)),
        place_(path_),
        server_(listen_unix(path_), make_plugin_service(options(settings), {log, &metrics}), {},
                log) {}
  void drain() { server_.drain(kPatience); }

 private:
  PluginOptions options(const Settings& settings) const {
    return {.driver = settings.driver.empty() ? "veneer" : settings.driver,
            .run = absolute(settings.run),
            .home = settings.home.empty() ? "" : absolute(settings.home),
            .place = path_};
  }

  std::string path_;
  SocketPlace place_;
  HttpServer server_;
};

void serve(const Settings& settings, const Log& log) {
  const sigset_t signals = hold_signals();
  Metrics metrics;
  // This one first: it changes the umask for a moment.
  std::optional<Containerd> containerd;
  if (!settings.snapshotter.empty()) containerd.emplace(settings, log, metrics);
  std::optional<DockerPlugin> plugin;
  if (!settings.docker_plugin.empty()) plugin.emplace(settings, log, metrics);
  std::optional<MetricsServer> metrics_server;
  if (!settings.metrics.empty()) {
    metrics_server.emplace(
        settings.metrics,
        [&] { return containerd ? metrics.text(containerd->store()) : metrics.text(); }, log);
    log.write(Log::Level::info, {{"event", "serving"}, {"metrics", metrics_server->address()}});
  }
  if (containerd)
    log.write(Log::Level::info, {{"event", "serving"},
                                 {"snapshotter", socket_path(settings.snapshotter)},
                                 {"root", containerd->store().layout().path()},
                                 {"version", VENEER_VERSION}});
  if (plugin)
    log.write(Log::Level::info, {{"event", "serving"},
                                 {"docker_plugin", socket_path(settings.docker_plugin)},
                                 {"version", VENEER_VERSION}});
  notify("READY=1");
  int signal = 0;
  (void)sigwait(&signals, &signal);  // fails for no set of real signals
  notify("STOPPING=1");
  log.write(Log::Level::info, {{"event", "stopping"}, {"signal", std::to_string(signal)}});
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);  // the second one ends us at once
  if (plugin) plugin->drain();
  if (containerd) containerd->drain();
}

// Help and version are asked for by exceptions of the parser, as errors are.
int run(int argc, char** argv) {
  Settings settings;
  try {
    CLI::App app("Veneer's daemon: serves containerd and Docker from a container layer store",
                 "veneerd");
    app.get_formatter()->column_width(28);
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    add_options(app, settings);
    try {
      app.parse(argc, argv);
      if (settings.snapshotter.empty() && settings.docker_plugin.empty())
        throw CLI::RequiredError("--snapshotter or --docker-plugin");
    } catch (const CLI::CallForHelp&) {
      print(app.help());
      return kDone;
    } catch (const CLI::CallForVersion& version) {
      print(fmt::format("{}\n", version.what()));
      return kDone;
    } catch (const CLI::ParseError& error) {
      fmt::print(stderr, "veneerd: {} (see veneerd --help)\n", error.what());
      return kUsage;
    }
    prepare_daemon();
    const Log log(log_level(settings));
    try {
      serve(settings, log);
    } catch (const std::exception& error) {
      log.write(Log::Level::error, {{"event", "failed"}, {"error", error.what()}});
      return kFailed;
    }
    return kDone;
  } catch (const std::exception& error) {
    fmt::print(stderr, "veneerd: {}\n", error.what());
    return kFailed;
  }
}

}  // namespace
}  // namespace veneer

int main(int argc, char** argv) {
  return veneer::run(argc, argv);
}
