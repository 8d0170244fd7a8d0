// veneer load, images, rmi, save: images by name.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/error.h"
#include "bin/answers.h"
#include "bin/load.h"
#include "bin/local_store.h"
#include "bin/new_file.h"
#include "bin/progress.h"
#include "image/archive.h"

namespace veneer {
namespace {

constexpr const char* kImageGroup = "Images";
constexpr std::string_view kNoName = "<none>";

// What the command line said, and what it is said to.
struct ImageRequest {
  explicit ImageRequest(Context& from) : context(from) {}

  Context& context;
  std::string path;
  std::string new_name;
  OpenImageOptions image_options;
  std::vector<std::string> images;
  std::string image;
  std::string output = "-";
  std::string format = "oci";
  std::string compression = "none";
};

// --- load ---

int answer_loaded(const Context& context, const LoadedImage& loaded) {
  if (!context.json) {
    const std::string id = loaded.image.record.config.hex();
    std::string lines;
    for (const std::string& name : loaded.image.names) lines += fmt::format("{}  {}\n", name, id);
    print(lines.empty() ? fmt::format("{}  {}\n", kNoName, id) : lines);
    return kDone;
  }
  JsonOut json;
  json.begin_object().key("existed").boolean(loaded.existed).key("image");
  add_image(json, loaded.image);
  json.key("layers").begin_array();
  for (const Import::Layer& layer : loaded.layers) {
    json.begin_object().key("diff_id").string(layer.diff_id.str());
    json.key("size").number(layer.file_bytes);
    json.key("existed").boolean(layer.existed).end_object();
  }
  return answer(json.end_array().end_object());
}

int load(const ImageRequest& request) {
  const Context& context = request.context;
  LocalStore local(context);
  const auto archive = open_image(request.path, request.image_options, local.store.layout().path());
  Progress progress(progress_fd(context), progress_layers(archive->manifest()));
  LoadOptions options{.name = {}, .progress = &progress};
  if (!request.new_name.empty()) options.name = request.new_name;
  const LoadedImage loaded = local.library.load(*archive, options);
  progress.clear();
  for (const Import::Layer& layer : loaded.layers)
    log(context, LogLevel::info,
        fmt::format("{}: {}", layer.diff_id.str(),
                    layer.existed ? "exists" : human_size(layer.file_bytes)));
  return answer_loaded(context, loaded);
}

void add_load(CLI::App& app, Context& context, const std::shared_ptr<ImageRequest>& request) {
  CLI::App& command =
      add_verb(app, context,
               {"load", "Add an image from a file, print its name and id",
                "veneer load image.tar\n  docker save app | veneer load - --name app:v2\n\n"
                "PATH is a docker-archive or an OCI layout (a directory or a tar); - is standard "
                "input."},
               [request] { return load(*request); });
  command.group(kImageGroup);
  command.add_option("PATH", request->path, "The image file")->required()->option_text(" ");
  command.add_option("--name", request->new_name, "What to call it, in place of the file's names")
      ->option_text("NAME");
  command
      .add_option("--image", request->image_options.name, "Which image, if the file has several")
      ->option_text("NAME");
  command
      .add_option("--platform", request->image_options.platform,
                  "os/arch[/variant]; the host's by default")
      ->option_text("PLATFORM");
}

// --- images ---

int list_images(const Context& context) {
  LocalStore local(context);
  JsonOut json;
  Table table;
  std::string ids;
  const Time today = now();
  json.begin_array();
  table.row({"NAME", "ID", "PLATFORM", "CREATED", "SIZE"});
  for (const ImageInfo& image : local.library.images()) {
    add_image(json, image);
    const std::string id = short_id(image.record.config.hex());
    ids += id + "\n";
    std::vector<std::string> names = image.names;
    if (names.empty()) names = {std::string(kNoName)};
    for (const std::string& name : names)
      table.row({name, id, image.platform, image.created ? human_age(*image.created, today) : "-",
                 human_size(image.size_bytes)});
  }
  if (context.json) return answer(json.end_array());
  print(context.quiet ? ids : table.text());
  return kDone;
}

// --- rmi ---

int remove_images(const ImageRequest& request) {
  const Context& context = request.context;
  return remove_each(context, request.images,
                     [&](Library& library, JsonOut& json, const std::string& reference) {
                       const Library::Removed removed = library.remove_image(reference);
                       json.begin_object().key("names").begin_array();
                       std::string lines;
                       for (const std::string& name : removed.names) {
                         json.string(name);
                         lines += fmt::format("untagged {}\n", name);
                       }
                       json.end_array().key("image");
                       if (removed.image) {
                         json.string(removed.image->str());
                         lines += fmt::format("deleted {}\n", removed.image->hex());
                       } else {
                         json.null();
                       }
                       json.end_object();
                       if (!context.json && !context.quiet) print(lines);
                     });
}

// --- save ---

SaveOptions save_options(const ImageRequest& request) {
  SaveOptions options;
  if (request.format == "docker") options.format = SaveOptions::Format::docker;
  if (request.compression == "gzip") options.compression = SaveOptions::Compression::gzip;
  if (request.compression == "zstd") options.compression = SaveOptions::Compression::zstd;
  return options;
}

int save(const ImageRequest& request) {
  const SaveOptions options = save_options(request);
  if (request.output == "-") {
    refuse_terminal("the image (-o FILE)");
    FdSink to(STDOUT_FILENO);
    LocalStore(request.context).library.save(request.image, options, to);
    return kDone;
  }
  LocalStore local(request.context);
  NewFile file(request.output);
  FdSink to(file.fd());
  local.library.save(request.image, options, to);
  file.publish();
  if (!request.context.json) return kDone;
  JsonOut json;
  return answer(json.begin_object().key("file").string(absolute(request.output)).end_object());
}

void add_save(CLI::App& app, Context& context, const std::shared_ptr<ImageRequest>& request) {
  CLI::App& command =
      add_verb(app, context,
               {"save", "Write an image to a file, for any tool that reads images",
                "veneer save debian -o debian.tar\n"
                "  veneer save debian --format docker | docker load\n\n"
                "The file appears when it is complete, in place of one that was there."},
               [request] { return save(*request); });
  command.group(kImageGroup);
  command.add_option("IMAGE", request->image, "Name or id of the image")
      ->required()
      ->option_text(" ");
  command
      .add_option("-o,--output", request->output, "Where to; - (the default) is standard output")
      ->option_text("FILE");
  add_choice(command, "--format", request->format, {"oci", "docker"}, "An OCI layout by default");
  add_choice(command, "--compression", request->compression, {"none", "gzip", "zstd"},
             "Of the layers; none by default");
}

}  // namespace

void add_image_commands(CLI::App& app, Context& context) {
  const auto request = std::make_shared<ImageRequest>(context);
  add_load(app, context, request);
  add_verb(app, context,
           {"images", "List the images",
            "veneer images\n  veneer rmi $(veneer images -q)\n\nWith -q, ids only."},
           [&context] { return list_images(context); })
      .group(kImageGroup);
  CLI::App& rmi = add_verb(
      app, context,
      {"rmi", "Remove names of images, and images without one",
       "veneer rmi debian:12 4ca2fee4b89e\n\n"
       "An image goes with its last name, or at once if it is named by its id. Its layers go\n"
       "with the last image that has them."},
      [request] { return remove_images(*request); });
  rmi.group(kImageGroup);
  rmi.add_option("IMAGE", request->images, "Names or ids")->required()->option_text("...");
  add_save(app, context, request);
}

}  // namespace veneer
