#include "rpc/plugin_service.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <utility>

#include "base/at.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/limits.h"
#include "graphdriver/registry.h"
#include "rpc/plugin_messages.h"

namespace veneer {

namespace {

constexpr std::string_view kPrefix = "/GraphDriver.";
constexpr PathView kInitName = "init";
constexpr PathView kNewInitName = "init.new";
constexpr PathView kTornDir = "applying";

class Plugin {
 public:
  Plugin(const PluginOptions& options, const Observer& observer);
  void handle(const HttpRequest& request, HttpReply& reply);

 private:
  std::string answer_call(std::string_view method, Driver& driver, const PluginCall& call);
  void init(const std::string& text);
  uint64_t apply_diff(const std::string& id, const std::string& parent, Source& body);
  void remove(Driver& driver, const std::string& id);

  void open(const std::string& init);
  void keep(const std::string& init) const;
  std::shared_ptr<Driver> driver();

  PluginOptions options_;
  Observer observer_;
  UniqueFd kept_;
  UniqueFd torn_;
  std::mutex mutex_;  // over what follows
  std::string init_;
  std::shared_ptr<Driver> driver_;
};

std::string body_of(const HttpRequest& request) {
  return read_all(request.body, limits::kPluginJsonBytes, "the request");
}

// "name=value" of a query, which Docker does not escape.
std::string query_value(std::string_view target, std::string_view name) {
  const size_t mark = target.find('?');
  std::string_view rest = mark == target.npos ? "" : target.substr(mark + 1);
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(pair.size() + 1, rest.size()));
    if (pair.size() > name.size() && pair.starts_with(name) && pair[name.size()] == '=')
      return std::string(pair.substr(name.size() + 1));
  }
  return "";
}

// The file of an id's mark.
RelPath mark_of(const std::string& id) {
  return RelPath::parse_name(Sha256::of(id).hex(), "mark");
}

// --- the home --------------------------------------------------------------------------------

Plugin::Plugin(const PluginOptions& options, const Observer& observer)
    : options_(options), observer_(observer) {
  const auto known = driver_factories();
  if (std::ranges::find(known, options_.driver, &DriverFactory::name) == known.end())
    fail(Code::invalid_argument, "no driver is called \"{}\"", options_.driver);
  kept_ = open_or_make_root(fmt::format("{}/docker-plugin/{}", options_.run,
                                        Sha256::of(options_.place).hex().substr(0, 16)),
                            0700)
              .fd;
  (void)try_make_dir_at(kept_.get(), kTornDir, 0700);
  torn_ = open_dir_at(kept_.get(), kTornDir);
  const auto init = maybe_read_file_at(kept_.get(), kInitName, limits::kPluginJsonBytes);
  if (!init && options_.home.empty()) return;
  try {
    open(init.value_or("{}"));
  } catch (const Error& error) {
    // Docker's next Init may be another.
    observer_.log.write(Log::Level::error, {{"event", "home"}, {"error", error.message()}});
  }
}

// The driver as an Init wants it; the one before ends with the last call that has it.
void Plugin::open(const std::string& init) {
  PluginInit wanted = parse_plugin_init(init);
  if (!options_.home.empty()) wanted.home = options_.home;
  if (!wanted.home.starts_with('/'))
    fail(Code::invalid_argument, "the home \"{}\" is not an absolute path", wanted.home);
  const std::scoped_lock lock(mutex_);
  if (driver_ && init == init_) return;
  driver_ = open_driver(options_.driver, {.home = wanted.home,
                                          .run = options_.run,
                                          .options = std::move(wanted.options),
                                          .id_maps = std::move(wanted.id_maps)});
  init_ = init;
  observer_.log.write(Log::Level::info,
                      {{"event", "home"}, {"driver", options_.driver}, {"home", wanted.home}});
}

void Plugin::init(const std::string& text) {
  open(text);
  keep(text);
}

void Plugin::keep(const std::string& init) const {
  (void)remove_tree_at(kept_.get(), kNewInitName);
  write_file_at(kept_.get(), kNewInitName, init, 0600);
  replace_at(kept_.get(), kNewInitName, kept_.get(), kInitName);
}

std::shared_ptr<Driver> Plugin::driver() {
  const std::scoped_lock lock(mutex_);
  if (!driver_) fail(Code::failed_precondition, "there was no Init yet");
  return driver_;
}

// --- calls -----------------------------------------------------------------------------------

uint64_t Plugin::apply_diff(const std::string& id, const std::string& parent, Source& body) {
  const std::shared_ptr<Driver> driver = this->driver();
  if (!driver->exists(id)) fail(Code::not_found, "no layer has the id {}", id);
  const RelPath mark = mark_of(id);
  if (!try_make_dir_at(torn_.get(), mark, 0700))
    fail(Code::failed_precondition,
         "an ApplyDiff of layer {} is under way or was cut off: remove the layer", id);
  try {
    const uint64_t size = driver->apply_diff(id, parent, body);
    (void)remove_tree_at(torn_.get(), mark);
    return size;
  } catch (const std::exception&) {
    // What comes in whole and is wrong is as wrong the next time; only a torn one leaves its mark.
    drain(body);  // throws if it is torn
    (void)remove_tree_at(torn_.get(), mark);
    throw;
  }
}

void Plugin::remove(Driver& driver, const std::string& id) {
  try {
    driver.remove(id);
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
  }
  (void)remove_tree_at(torn_.get(), mark_of(id));
}

std::string Plugin::answer_call(std::string_view method, Driver& driver, const PluginCall& call) {
  const CreateOptions options{.mount_label = call.mount_label,
                              .storage_options = call.storage_options};
  if (method == "Create") {
    driver.create(call.id, call.parent, options);
  } else if (method == "CreateReadWrite") {
    driver.create_read_write(call.id, call.parent, options);
  } else if (method == "Remove") {
    remove(driver, call.id);
  } else if (method == "Get") {
    return plugin_answer::path(driver.get(call.id, call.mount_label));
  } else if (method == "Put") {
    driver.put(call.id);
  } else if (method == "Exists") {
    return plugin_answer::exists(driver.exists(call.id));
  } else if (method == "Status") {
    return plugin_answer::status(driver.status());
  } else if (method == "GetMetadata") {
    return plugin_answer::metadata(driver.metadata(call.id));
  } else if (method == "Cleanup") {
    driver.cleanup();
  } else if (method == "Capabilities") {
    return plugin_answer::capabilities(driver.capabilities());
  } else if (method == "Changes") {
    return plugin_answer::changes(driver.changes(call.id, call.parent));
  } else if (method == "DiffSize") {
    return plugin_answer::size(driver.diff_size(call.id, call.parent));
  } else {
    fail(Code::unsupported, "there is no call {}", method);
  }
  return plugin_answer::done();
}

constexpr std::string_view kMethods[] = {
    "Init",    "Create",       "CreateReadWrite", "Remove",   "Get",
    "Put",     "Exists",       "Status",          "Cleanup",  "GetMetadata",
    "Changes", "Capabilities", "ApplyDiff",       "DiffSize", "Diff"};

void Plugin::handle(const HttpRequest& request, HttpReply& reply) {
  const std::string_view path = request.target.substr(0, request.target.find('?'));
  if (request.method != "POST")
    return reply.send({.status = 405, .body = plugin_answer::error("only POST")});
  if (path == "/Plugin.Activate") return reply.send({.body = plugin_answer::implements()});
  const std::string_view method =
      path.starts_with(kPrefix) ? path.substr(kPrefix.size()) : std::string_view();
  if (std::ranges::find(kMethods, method) == std::end(kMethods))
    return reply.send({.status = 404, .body = plugin_answer::error("there is no such call")});

  // Read before guarded() asks what the call is about.
  const bool has_json = method != "ApplyDiff";
  std::string text;
  PluginCall call{.id = query_value(request.target, "id"),
                  .parent = {},
                  .mount_label = {},
                  .storage_options = {}};
  std::exception_ptr is_no_call;
  try {
    if (has_json) text = body_of(request);
    if (has_json) call = parse_plugin_call(text);
  } catch (const Error&) {
    is_no_call = std::current_exception();
  }
  std::string answer = plugin_answer::done();
  const grpc::Status status = guarded(observer_, path.substr(1), call.id, [&] {
    if (is_no_call) std::rethrow_exception(is_no_call);
    if (method == "Diff") {
      driver()->diff(call.id, call.parent, reply.stream());
      reply.finish();
    } else if (method == "ApplyDiff") {
      answer = plugin_answer::size(
          apply_diff(call.id, query_value(request.target, "parent"), request.body));
    } else if (method == "Init") {
      init(text);
    } else {
      answer = answer_call(method, *driver(), call);
    }
  });
  if (method == "Diff") {
    // After the first byte the end of the connection says it.
    if (!status.ok() && !reply.has_begun())
      reply.send({.status = 500, .body = plugin_answer::error(status.error_message())});
    return;
  }
  reply.send({.body = status.ok() ? answer : plugin_answer::error(status.error_message())});
}

}  // namespace

HttpHandler make_plugin_service(const PluginOptions& options, const Observer& observer) {
  const auto plugin = std::make_shared<Plugin>(options, observer);
  return [plugin](const HttpRequest& request, HttpReply& reply) { plugin->handle(request, reply); };
}

}  // namespace veneer
