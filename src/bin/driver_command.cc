// veneer driver: the calls of the graph driver interface, one verb each.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/error.h"
#include "bin/answers.h"
#include "bin/command.h"
#include "bin/json_out.h"
#include "bin/load.h"
#include "graphdriver/registry.h"
#include "image/archive.h"
#include "stream/compress.h"
#include "stream/prefetch.h"

namespace veneer {
namespace {

// What the command line said, and what it is said to.
struct DriverRequest {
  Context& context;
  std::string driver{driver_factories().front().name};
  std::string home;
  std::vector<std::string> storage_options;
  std::string uid_map;
  std::string gid_map;

  std::string id;
  std::string parent;
  std::string mount_label;
  std::vector<std::string> layer_options;
  std::string image;
  OpenImageOptions image_options;
};

// The result of verbs that have none but that they are done.
int done_with(const DriverRequest& request) {
  if (!request.context.json) return kDone;
  return answer(JsonOut().begin_object().key("id").string(request.id).end_object());
}

// A value that scripts read from a line of its own.
int answer_value(const DriverRequest& request, std::string_view key, std::string_view value) {
  if (!request.context.json) {
    print(fmt::format("{}\n", value));
    return kDone;
  }
  JsonOut json;
  json.begin_object().key("id").string(request.id).key(key).string(value).end_object();
  return answer(json);
}

int answer_size(const DriverRequest& request, uint64_t size_bytes) {
  if (!request.context.json) {
    print(human_size(size_bytes) + "\n");
    return kDone;
  }
  JsonOut json;
  json.begin_object().key("id").string(request.id).key("size").number(size_bytes).end_object();
  return answer(json);
}

// Pairs as a table or as one object.
template <typename Pairs>
int answer_pairs(const DriverRequest& request, const Pairs& pairs) {
  Table table;
  JsonOut json;
  json.begin_object();
  for (const auto& [key, value] : pairs) {
    table.row({key, value});
    json.key(key).string(value);
  }
  json.end_object();
  if (request.context.json) return answer(json);
  print(table.text());
  return kDone;
}

// "K=V" strings; a K without "=" has an empty value.
std::map<std::string, std::string> to_pairs(const std::vector<std::string>& options) {
  std::map<std::string, std::string> pairs;
  for (const std::string& option : options) {
    const size_t equals = option.find('=');
    const std::string value = equals == option.npos ? "" : option.substr(equals + 1);
    if (!pairs.emplace(option.substr(0, equals), value).second) {
      fail(Code::invalid_argument, "option {} is given twice", option.substr(0, equals));
    }
  }
  return pairs;
}

CreateOptions create_options(const DriverRequest& request) {
  return {.mount_label = request.mount_label, .storage_options = to_pairs(request.layer_options)};
}

int create(const DriverRequest& request, Driver& driver) {
  driver.create(request.id, request.parent, create_options(request));
  return done_with(request);
}

int create_read_write(const DriverRequest& request, Driver& driver) {
  driver.create_read_write(request.id, request.parent, create_options(request));
  return done_with(request);
}

int get(const DriverRequest& request, Driver& driver) {
  return answer_value(request, "path", driver.get(request.id, request.mount_label));
}

int put(const DriverRequest& request, Driver& driver) {
  driver.put(request.id);
  return done_with(request);
}

int remove(const DriverRequest& request, Driver& driver) {
  driver.remove(request.id);
  return done_with(request);
}

int exists(const DriverRequest& request, Driver& driver) {
  const bool there = driver.exists(request.id);
  if (request.context.json) {
    JsonOut json;
    answer(
        json.begin_object().key("id").string(request.id).key("exists").boolean(there).end_object());
  }
  return there ? kDone : kFailed;
}

int list(const DriverRequest& request, Driver& driver) {
  JsonOut json;
  std::string lines;
  json.begin_array();
  for (const std::string& id : driver.list()) {
    json.string(id);
    lines += id + "\n";
  }
  json.end_array();
  if (request.context.json) return answer(json);
  print(lines);
  return kDone;
}

int status(const DriverRequest& request, Driver& driver) {
  std::vector<std::pair<std::string, std::string>> pairs{{"Driver", std::string(driver.name())}};
  for (auto& pair : driver.status()) pairs.push_back(std::move(pair));
  return answer_pairs(request, pairs);
}

int metadata(const DriverRequest& request, Driver& driver) {
  return answer_pairs(request, driver.metadata(request.id));
}

int diff(const DriverRequest& request, Driver& driver) {
  refuse_terminal("the tar");
  FdSink to(STDOUT_FILENO);
  driver.diff(request.id, request.parent, to);
  return kDone;
}

int changes(const DriverRequest& request, Driver& driver) {
  return answer_changes(request.context, driver.changes(request.id, request.parent));
}

int apply(const DriverRequest& request, Driver& driver) {
  if (isatty(STDIN_FILENO) != 0) {
    fail(Code::invalid_argument, "standard input is a terminal: give the layer's tar there");
  }
  FdSource from(STDIN_FILENO);
  DecompressingSource plain(from);
  PrefetchSource tar(plain);
  try {
    return answer_size(request, driver.apply_diff(request.id, request.parent, tar));
  } catch (Error& error) {
    error.add_context(fmt::format("layer {}", request.id));
    throw;
  }
}

int size(const DriverRequest& request, Driver& driver) {
  return answer_size(request, driver.diff_size(request.id, request.parent));
}

int cleanup(const DriverRequest& request, Driver& driver) {
  driver.cleanup();
  if (!request.context.json) return kDone;
  return answer(JsonOut().begin_object().end_object());
}

int load(const DriverRequest& request, Driver& driver) {
  const std::string path = request.image == "-" ? "/dev/stdin" : request.image;
  const auto image = open_image(path, request.image_options, absolute(request.home));
  Progress progress(progress_fd(request.context), progress_layers(image->manifest()));
  const std::vector<LoadedLayer> layers = load_image(*image, driver, progress);
  progress.clear();
  JsonOut json;
  json.begin_object().key("id").string(layers.back().id).key("layers").begin_array();
  for (const LoadedLayer& layer : layers) {
    json.begin_object().key("id").string(layer.id);
    json.key("diff_id").string(layer.diff_id.str()).key("size");
    layer.existed() ? json.null() : json.number(*layer.size_bytes);
    json.key("existed").boolean(layer.existed()).end_object();
    log(request.context, LogLevel::info,
        fmt::format("{}: {}", layer.id,
                    layer.existed() ? "exists" : human_size(*layer.size_bytes)));
  }
  json.end_array().key("names").begin_array();
  for (const std::string& name : image->manifest().names) json.string(name);
  json.end_array().end_object();
  if (request.context.json) return answer(json);
  print(layers.back().id + "\n");
  return kDone;
}

enum class Takes { nothing, id, id_and_parent, image };

struct DriverVerb {
  const char* name;
  Takes takes;
  int (*run)(const DriverRequest&, Driver&);
  const char* help;
  const char* example;
};

constexpr DriverVerb kDriverVerbs[] = {
    {"create", Takes::id_and_parent, create, "Make an image layer, for apply to fill",
     "veneer driver create app base"},
    {"create-rw", Takes::id_and_parent, create_read_write, "Make a container's layer",
     "veneer driver create-rw box app"},
    {"get", Takes::id, get, "Mount a layer, print the path of its tree; counted",
     "ls \"$(veneer driver get box)\""},
    {"put", Takes::id, put, "Undo one get; the last one unmounts", "veneer driver put box"},
    {"remove", Takes::id, remove, "Unmount and remove a layer", "veneer driver remove box"},
    {"exists", Takes::id, exists, "Exit with 0 if the layer is there, else with 1",
     "veneer driver exists base || veneer driver create base"},
    {"list", Takes::nothing, list, "Print the ids of all layers", "veneer driver list"},
    {"status", Takes::nothing, status, "Print what the driver is and stands on",
     "veneer driver --driver overlay status"},
    {"metadata", Takes::id, metadata, "Print where the parts of a layer are",
     "veneer --json driver metadata box"},
    {"diff", Takes::id_and_parent, diff, "Write the changes over PARENT as a tar",
     "veneer driver diff box app > changes.tar"},
    {"changes", Takes::id_and_parent, changes, "List the changes over PARENT",
     "veneer driver changes box app\n\nEach line is A (added), C (changed) or D (deleted) and a "
     "path."},
    {"apply", Takes::id_and_parent, apply, "Fill a created layer from a tar, print its size",
     "veneer driver apply new app < changes.tar\n\n"
     "The tar may be compressed: gzip, zstd, xz or bzip2."},
    {"size", Takes::id_and_parent, size, "Print the size of the files in the changes",
     "veneer driver size box app"},
    {"cleanup", Takes::nothing, cleanup, "Let go of what the driver itself holds",
     "veneer driver cleanup"},
    {"load", Takes::image, load, "Add the layers of an image, print the id of the topmost",
     "veneer driver load image.tar\n\n"
     "IMAGE is a docker-archive or an OCI layout (a directory or a tar); - is standard input."},
};

void add_layer_options(CLI::App& command, const DriverVerb& verb, DriverRequest& request) {
  if (verb.takes == Takes::id || verb.takes == Takes::id_and_parent) {
    command.add_option("ID", request.id, "Id of the layer")->required()->option_text(" ");
  }
  if (verb.takes == Takes::id_and_parent) {
    command.add_option("PARENT", request.parent, "Id of the layer below; none if left out")
        ->option_text(" ");
  }
  const bool is_create = verb.run == create || verb.run == create_read_write;
  if (is_create || verb.run == get) {
    command.add_option("--mount-label", request.mount_label, "SELinux label of the mount")
        ->option_text("LABEL");
  }
  if (is_create) {
    command
        .add_option("--option", request.layer_options, "An option of this layer; may be repeated")
        ->option_text("K=V")
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  if (verb.takes == Takes::image) {
    command.add_option("IMAGE", request.image, "Path of the image")->required()->option_text(" ");
    command.add_option("--name", request.image_options.name, "Which image, if there are several")
        ->option_text("NAME");
    command
        .add_option("--platform", request.image_options.platform,
                    "os/arch[/variant]; the host's by default")
        ->option_text("PLATFORM");
  }
}

void add_driver_options(CLI::App& command, DriverRequest& request) {
  command.add_option("--driver", request.driver, "Which driver; by default " + request.driver)
      ->option_text("NAME");
  command.add_option("--home", request.home, "Directory of the driver; by default ROOT/NAME")
      ->option_text("DIR");
  command
      .add_option("--storage-opt", request.storage_options,
                  "An option of the driver; may be repeated")
      ->option_text("K=V")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--uidmap", request.uid_map, "User ids, container to host")
      ->option_text("C:H:SIZE[,...]");
  command.add_option("--gidmap", request.gid_map, "Group ids, container to host")
      ->option_text("C:H:SIZE[,...]");
}

int run_driver_verb(const DriverVerb& verb, DriverRequest& request) {
  const Context& context = request.context;
  if (request.home.empty()) request.home = context.root + "/" + request.driver;
  DriverOptions options{.home = absolute(request.home),
                        .run = absolute(context.run),
                        .options = request.storage_options,
                        .id_maps = {}};
  if (!request.uid_map.empty()) options.id_maps.uids = IdMap::parse(request.uid_map);
  if (!request.gid_map.empty()) options.id_maps.gids = IdMap::parse(request.gid_map);
  log(context, LogLevel::debug,
      fmt::format("driver {}, home {}, run {}", request.driver, options.home, options.run));
  const std::unique_ptr<Driver> driver = open_driver(request.driver, options);
  return verb.run(request, *driver);
}

}  // namespace

void add_driver_command(CLI::App& app, Context& context) {
  // The parser keeps references into the request, the action needs it after the parser is done.
  const auto request = std::make_shared<DriverRequest>(context);
  CLI::App* group = app.add_subcommand("driver", "The graph drivers' calls");
  group->require_subcommand(1);
  group->fallthrough();
  group->footer("Example:\n  veneer driver --driver overlay --home /var/lib/docker/overlay list");
  add_driver_options(*group, *request);
  for (const DriverVerb& verb : kDriverVerbs) {
    CLI::App* command = group->add_subcommand(verb.name, verb.help);
    command->fallthrough();
    command->footer(fmt::format("Example:\n  {}", verb.example));
    add_layer_options(*command, verb, *request);
    command->callback([&context, request, &verb] {
      context.verb = fmt::format("driver {}", verb.name);
      context.action = [request, &verb] { return run_driver_verb(verb, *request); };
    });
  }
}

}  // namespace veneer
