// veneer create, ps, rm, mount, umount, diff, commit: containers, which are writable layers.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <memory>

#include "base/error.h"
#include "bin/answers.h"
#include "bin/local_store.h"

namespace veneer {
namespace {

constexpr const char* kContainerGroup = "Containers";

// What the command line said, and what it is said to.
struct ContainerRequest {
  explicit ContainerRequest(Context& from) : context(from) {}

  Context& context;
  std::string image;
  std::string name;
  std::string container;
  std::vector<std::string> references;
  bool is_tar = false;
  CommitImageOptions commit;
};

// --- create, ps, rm ---

int create_container(const ContainerRequest& request) {
  LocalStore local(request.context);
  const ContainerInfo container = local.library.create(request.image, request.name);
  if (!request.context.json) {
    print(container.record.id + "\n");
    return kDone;
  }
  JsonOut json;
  add_container(json, container);
  return answer(json);
}

int list_containers(const Context& context) {
  LocalStore local(context);
  JsonOut json;
  Table table;
  std::string ids;
  const Time today = now();
  json.begin_array();
  table.row({"NAME", "ID", "IMAGE", "CREATED", "MOUNTED ON"});
  for (const ContainerInfo& container : local.library.containers()) {
    add_container(json, container);
    const std::string id = short_id(container.record.id);
    ids += id + "\n";
    table.row({container.record.name, id, container.image_name,
               human_age(container.record.created, today),
               container.mounted_on.empty() ? "-" : container.mounted_on});
  }
  if (context.json) return answer(json.end_array());
  print(context.quiet ? ids : table.text());
  return kDone;
}

int remove(const ContainerRequest& request) {
  const Context& context = request.context;
  return remove_each(context, request.references,
                     [&](Library& library, JsonOut& json, const std::string& reference) {
                       library.remove_container(reference);
                       json.string(reference);
                       if (!context.json && !context.quiet) print(reference + "\n");
                     });
}

// --- mount, umount ---

int list_mounted(const Context& context) {
  LocalStore local(context);
  JsonOut json;
  Table table;
  json.begin_array();
  table.row({"NAME", "MOUNTED ON"});
  const auto add = [&](const std::string& name, const std::string& path) {
    if (path.empty()) return;
    json.begin_object().key("name").string(name).key("path").string(path).end_object();
    table.row({name, path});
  };
  for (const ContainerInfo& container : local.library.containers())
    add(container.record.name, container.mounted_on);
  for (const ImageInfo& image : local.library.images())
    add(image.names.empty() ? short_id(image.record.config.hex()) : image.names.front(),
        image.mounted_on);
  if (context.json) return answer(json.end_array());
  print(table.text());
  return kDone;
}

int mount(const ContainerRequest& request) {
  const Context& context = request.context;
  if (request.references.empty()) return list_mounted(context);
  LocalStore local(context);
  JsonOut json;
  json.begin_array();
  const int status =
      for_each_argument(context, request.references, [&](const std::string& reference) {
        const std::string path = local.library.mount(reference);
        json.begin_object().key("name").string(reference).key("path").string(path).end_object();
        if (!context.json) print(path + "\n");
      });
  if (context.json) answer(json.end_array());
  return status;
}

int unmount(const ContainerRequest& request) {
  return remove_each(request.context, request.references,
                     [](Library& library, JsonOut& json, const std::string& reference) {
                       if (!library.unmount(reference))
                         fail(Code::failed_precondition,
                              "{} is not mounted (veneer mount lists what is)", reference);
                       json.string(reference);
                     });
}

void add_mounts(CLI::App& app, Context& context, const std::shared_ptr<ContainerRequest>& request) {
  CLI::App& command = add_verb(
      app, context,
      {"mount", "Mount containers or, read-only, images, and print the paths",
       "cd \"$(veneer mount box)\"\n  veneer mount\n\nWithout names it lists what is mounted."},
      [request] { return mount(*request); });
  command.group(kContainerGroup);
  command.add_option("NAME", request->references, "Containers or images")->option_text("...");
  CLI::App& umount = add_verb(app, context, {"umount", "Undo mounts", "veneer umount box"},
                              [request] { return unmount(*request); });
  umount.group(kContainerGroup)->alias("unmount");
  umount.add_option("NAME", request->references, "Containers or images")
      ->required()
      ->option_text("...");
}

// --- diff, commit ---

int diff(const ContainerRequest& request) {
  if (request.is_tar) refuse_terminal("the tar");
  LocalStore local(request.context);
  if (!request.is_tar)
    return answer_changes(request.context, local.library.changes(request.container));
  FdSink to(STDOUT_FILENO);
  local.library.write_diff(request.container, to);
  return kDone;
}

// The convention of reproducible-builds.org: seconds since 1970, in decimal.
std::optional<int64_t> source_date_epoch() {
  const char* text = getenv("SOURCE_DATE_EPOCH");
  if (text == nullptr) return std::nullopt;
  const std::string_view digits = text;
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), seconds);
  if (error != std::errc() || end != digits.end())
    fail(Code::invalid_argument, "SOURCE_DATE_EPOCH is \"{}\", which is no number of seconds",
         digits);
  return seconds;
}

int commit(const ContainerRequest& request) {
  CommitImageOptions options = request.commit;
  options.epoch = source_date_epoch();
  LocalStore local(request.context);
  const ImageInfo image = local.library.commit(request.container, options);
  if (!request.context.json) {
    print(image.record.config.hex() + "\n");
    return kDone;
  }
  JsonOut json;
  add_image(json, image);
  return answer(json);
}

void add_diff(CLI::App& app, Context& context, const std::shared_ptr<ContainerRequest>& request) {
  CLI::App& command = add_verb(app, context,
                               {"diff", "List what a container changed",
                                "veneer diff box\n  veneer diff box --tar > changes.tar\n\n"
                                "Each line is A (added), C (changed) or D (deleted) and a path."},
                               [request] { return diff(*request); });
  command.group(kContainerGroup);
  command.add_option("CONTAINER", request->container, "Name or id")->required()->option_text(" ");
  command.add_flag("--tar", request->is_tar, "Write it to standard output, as a layer tar");
}

void add_commit(CLI::App& app, Context& context, const std::shared_ptr<ContainerRequest>& request) {
  CLI::App& command = add_verb(
      app, context,
      {"commit", "Make an image of a container, print its id",
       "veneer commit box app:v2 --change 'CMD [\"/bin/app\"]' --message 'adds the app'\n\n"
       "With SOURCE_DATE_EPOCH in the environment equal containers give equal images."},
      [request] { return commit(*request); });
  command.group(kContainerGroup);
  CommitImageOptions& options = request->commit;
  command.add_option("CONTAINER", request->container, "Name or id")->required()->option_text(" ");
  command.add_option("IMAGE", options.name, "Name of the new image; none if left out")
      ->option_text(" ");
  command
      .add_option("-c,--change", options.changes,
                  "A line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, "
                  "STOPSIGNAL, USER, VOLUME, WORKDIR; may be repeated")
      ->option_text("LINE")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("-m,--message", options.message, "What the history says of it")
      ->option_text("TEXT");
  command.add_option("-a,--author", options.author, "Who made it")->option_text("TEXT");
}

void add_life(CLI::App& app, Context& context, const std::shared_ptr<ContainerRequest>& request) {
  CLI::App& command = add_verb(
      app, context,
      {"create", "Make a container of an image, print its id", "veneer create debian --name box"},
      [request] { return create_container(*request); });
  command.group(kContainerGroup);
  command.add_option("IMAGE", request->image, "Name or id of the image")
      ->required()
      ->option_text(" ");
  command.add_option("--name", request->name, "What to call it; a random name by default")
      ->option_text("NAME");
  add_verb(
      app, context,
      {"ps", "List the containers", "veneer ps\n  veneer rm $(veneer ps -q)\n\nWith -q, ids only."},
      [&context] { return list_containers(context); })
      .group(kContainerGroup);
  CLI::App& rm =
      add_verb(app, context, {"rm", "Unmount and remove containers", "veneer rm box 0c7d92e8f1a4"},
               [request] { return remove(*request); });
  rm.group(kContainerGroup);
  rm.add_option("CONTAINER", request->references, "Names or ids")->required()->option_text("...");
}

}  // namespace

void add_container_commands(CLI::App& app, Context& context) {
  const auto request = std::make_shared<ContainerRequest>(context);
  add_life(app, context, request);
  add_mounts(app, context, request);
  add_diff(app, context, request);
  add_commit(app, context, request);
}

}  // namespace veneer
