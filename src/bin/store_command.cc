// veneer layers, inspect, df, gc: what the store holds.

#include <CLI/CLI.hpp>
#include <memory>

#include "base/error.h"
#include "bin/answers.h"
#include "bin/disk_use.h"
#include "bin/local_store.h"
#include "image/names.h"

namespace veneer {
namespace {

constexpr const char* kStoreGroup = "Store";
// Fewer digits of a layer's digest may be meant for another.
constexpr size_t kPrefixDigits = 4;

// What the command line said, and what it is said to.
struct StoreRequest {
  explicit StoreRequest(Context& from) : context(from) {}

  Context& context;
  std::string image;
  std::vector<std::string> references;
  bool is_dry_run = false;
};

// --- layers ---

void add_layer(JsonOut& json, const LayerUse& use) {
  const LayerRecord& layer = use.layer;
  json.begin_object().key("diff_id").string(layer.diff_id.str());
  json.key("form").string(use.forms()).key("size").number(layer.tar_bytes);
  json.key("files_size").number(layer.file_bytes).key("disk_size").number(use.disk_bytes());
  json.key("snapshots").number(use.snapshots).key("variants").begin_array();
  for (const VariantRecord& variant : use.variants) {
    json.begin_object().key("name").string(variant.name).key("digest");
    variant.digest ? json.string(variant.digest->str()) : json.null();
    json.end_object();
  }
  json.end_array().end_object();
}

void add_layer(JsonOut& json, const ImageLayerInfo& layer) {
  json.begin_object().key("diff_id").string(layer.diff_id.str());
  json.key("chain_id").string(layer.chain_id.str()).key("form").string(to_string(layer.form));
  json.key("size").number(layer.tar_bytes).key("files_size").number(layer.file_bytes);
  json.end_object();
}

Table table_of(const std::vector<ImageLayerInfo>& layers) {
  Table table;
  table.row({"LAYER", "CHAIN", "FORM", "TAR", "FILES"});
  for (const ImageLayerInfo& layer : layers)
    table.row({short_id(layer.diff_id.hex()), short_id(layer.chain_id.hex()),
               std::string(to_string(layer.form)), human_size(layer.tar_bytes),
               human_size(layer.file_bytes)});
  return table;
}

std::vector<LayerUse> read_layers(Store& store) {
  Meta::Transaction transaction = store.meta().read();
  return list_layer_use(transaction);
}

int list_layers(const StoreRequest& request) {
  LocalStore local(request.context);
  JsonOut json;
  Table table;
  json.begin_array();
  if (request.image.empty()) {
    table.row({"LAYER", "FORM", "TAR", "FILES", "ON DISK", "SNAPSHOTS"});
    for (const LayerUse& use : read_layers(local.store)) {
      add_layer(json, use);
      table.row({short_id(use.layer.diff_id.hex()), use.forms(), human_size(use.layer.tar_bytes),
                 human_size(use.layer.file_bytes), human_size(use.disk_bytes()),
                 fmt::format("{}", use.snapshots)});
    }
  } else {
    const auto layers = local.library.layers(local.library.image(request.image));
    for (const ImageLayerInfo& layer : layers) add_layer(json, layer);
    table = table_of(layers);
  }
  if (request.context.json) return answer(json.end_array());
  print(table.text());
  return kDone;
}

// --- inspect ---

std::string inspect_image(Library& library, const ImageInfo& image, JsonOut& json) {
  const std::vector<ImageLayerInfo> layers = library.layers(image);
  const std::string config = library.config(image);
  json.begin_object().key("kind").string("image").key("image");
  add_image(json, image);
  json.key("layers").begin_array();
  for (const ImageLayerInfo& layer : layers) add_layer(json, layer);
  json.end_array().key("config").raw(config).end_object();

  Table table;
  table.row({"kind", "image"});
  table.row({"id", image.record.config.hex()});
  table.row({"names", fmt::format("{}", fmt::join(image.names, ", "))});
  table.row({"platform", image.platform});
  table.row({"created", image.created ? rfc3339(*image.created) : "-"});
  table.row({"added", rfc3339(image.record.added)});
  table.row({"size", human_size(image.size_bytes)});
  table.row({"containers", fmt::format("{}", image.containers)});
  return table.text() + "\n" + table_of(layers).text();
}

std::string inspect_container(Store& store, const ContainerInfo& container, JsonOut& json) {
  const std::string directory = store.layout().snapshot_path(container.record.snapshot);
  const std::string upper = fmt::format("{}/{}", directory, kUpperName.c_str());
  json.begin_object().key("kind").string("container").key("container");
  add_container(json, container);
  json.key("upper").string(upper).end_object();

  Table table;
  table.row({"kind", "container"});
  table.row({"id", container.record.id});
  table.row({"name", container.record.name});
  table.row({"image", container.image_name});
  table.row({"image id", container.record.image.hex()});
  table.row({"created", rfc3339(container.record.created)});
  table.row({"mounted on", container.mounted_on.empty() ? "-" : container.mounted_on});
  table.row({"changes in", upper});
  return table.text();
}

std::string inspect_layer(Store& store, const LayerUse& use, JsonOut& json) {
  json.begin_object().key("kind").string("layer").key("layer");
  add_layer(json, use);
  json.end_object();

  Table table;
  table.row({"kind", "layer"});
  table.row({"diff id", use.layer.diff_id.str()});
  table.row({"form", use.forms()});
  table.row({"tar", human_size(use.layer.tar_bytes)});
  table.row({"files", human_size(use.layer.file_bytes)});
  table.row({"on disk", human_size(use.disk_bytes())});
  table.row({"snapshots", fmt::format("{}", use.snapshots)});
  table.row({"directory", store.layout().layer_path(use.layer.diff_id)});
  return table.text();
}

// By "sha256:<hex>" or the first digits of it, if only one layer has them.
std::optional<LayerUse> maybe_layer(Store& store, std::string_view reference) {
  if (reference.starts_with("sha256:")) reference.remove_prefix(7);
  if (reference.size() < kPrefixDigits) return std::nullopt;
  std::optional<LayerUse> found;
  for (LayerUse& use : read_layers(store)) {
    if (!use.layer.diff_id.hex().starts_with(reference)) continue;
    if (found) fail(Code::invalid_argument, "several layers begin with {}", reference);
    found = std::move(use);
  }
  return found;
}

// Nothing for what is not there.
template <typename Call>
auto maybe(Call call) -> std::optional<decltype(call())> {
  try {
    return call();
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
    return std::nullopt;
  }
}

std::string inspect_one(LocalStore& local, const std::string& reference, JsonOut& json) {
  Library& library = local.library;
  if (const auto container = maybe([&] { return library.container(reference); }))
    return inspect_container(local.store, *container, json);
  if (const auto image = maybe([&] { return library.image(reference); }))
    return inspect_image(library, *image, json);
  if (const auto layer = maybe_layer(local.store, reference))
    return inspect_layer(local.store, *layer, json);
  fail(Code::not_found,
       "no container, image or layer is called {} (veneer ps, images and layers list them)",
       reference);
}

int inspect(const StoreRequest& request) {
  LocalStore local(request.context);
  JsonOut json;
  std::string text;
  json.begin_array();
  const int status =
      for_each_argument(request.context, request.references, [&](const std::string& reference) {
        text += (text.empty() ? "" : "\n") + inspect_one(local, reference, json);
      });
  if (request.context.json) {
    answer(json.end_array());
  } else {
    print(text);
  }
  return status;
}

// --- df, gc ---

std::vector<std::string> shown_names(const ImageUse& image) {
  std::vector<std::string> names;
  for (const std::string& name : image.record.names)
    names.push_back(ImageName::parse(name).familiar());
  return names;
}

void add_image_use(JsonOut& json, const ImageUse& image) {
  json.begin_object().key("id").string(image.record.config.str()).key("names").begin_array();
  for (const std::string& name : shown_names(image)) json.string(name);
  json.end_array().key("size").number(image.size_bytes);
  json.key("shared").number(image.shared_bytes).key("unique").number(image.unique_bytes());
  json.key("reclaimable").number(image.reclaimable_bytes).end_object();
}

Table table_of(const std::vector<ImageUse>& images) {
  Table table;
  table.row({"IMAGE", "ID", "SIZE", "SHARED", "UNIQUE", "RECLAIMABLE"});
  for (const ImageUse& image : images) {
    const std::vector<std::string> names = shown_names(image);
    table.row({names.empty() ? "-" : names.front(), short_id(image.record.config.hex()),
               human_size(image.size_bytes), human_size(image.shared_bytes),
               human_size(image.unique_bytes()), human_size(image.reclaimable_bytes)});
  }
  return table;
}

int show_disk_use(const Context& context) {
  LocalStore local(context);
  const DiskUse use = measure_disk_use(local.store, local.library);
  JsonOut json;
  Table table;
  json.begin_object();
  table.row({"WHAT", "COUNT", "SIZE", "SHARED", "RECLAIMABLE"});
  for (const auto& [name, row] :
       {std::pair("images", use.images), std::pair("containers", use.containers),
        std::pair("layers", use.layers)}) {
    json.key(name).begin_object().key("count").number(row.count);
    json.key("size").number(row.size_bytes).key("shared").number(row.shared_bytes);
    json.key("reclaimable").number(row.reclaimable_bytes).end_object();
    table.row({name, fmt::format("{}", row.count), human_size(row.size_bytes),
               human_size(row.shared_bytes), human_size(row.reclaimable_bytes)});
  }
  json.key("each_image").begin_array();
  for (const ImageUse& image : use.each_image) add_image_use(json, image);
  if (context.json) return answer(json.end_array().end_object());
  print(table.text());
  if (!use.each_image.empty()) print("\n" + table_of(use.each_image).text());
  return kDone;
}

constexpr std::string_view kUnusedLayer = "no snapshot has it";

int answer_collected(const StoreRequest& request, const Meta::Transaction::Unused& unused,
                     const std::vector<Leftover>& leftovers) {
  uint64_t size_bytes = 0;
  JsonOut json;
  std::string names;
  Table reasons;
  json.begin_object().key("layers").begin_array();
  for (const LayerRecord& layer : unused.layers) {
    uint64_t layer_bytes = 0;
    for (const VariantRecord& variant : unused.variants)
      if (variant.layer == layer.id) layer_bytes += variant.usage.size_bytes;
    size_bytes += layer_bytes;
    json.begin_object().key("diff_id").string(layer.diff_id.str());
    json.key("size").number(layer_bytes).key("reason").string(kUnusedLayer).end_object();
    names += layer.diff_id.str() + "\n";
    reasons.row({layer.diff_id.str(), std::string(kUnusedLayer), human_size(layer_bytes)});
  }
  json.end_array().key("leftovers").begin_array();
  for (const Leftover& leftover : leftovers) {
    json.begin_object().key("path").string(leftover.path);
    json.key("reason").string(leftover.reason).end_object();
    names += leftover.path + "\n";
    reasons.row({leftover.path, std::string(leftover.reason)});
  }
  json.end_array().key("size").number(size_bytes).end_object();
  if (request.context.json) return answer(json);
  const std::string_view done = request.is_dry_run ? "to delete" : "deleted";
  print(request.context.quiet
            ? names
            : fmt::format("{}{}, {} {}; {}\n", reasons.text(),
                          human_count(unused.layers.size(), "layer"), human_size(size_bytes), done,
                          human_count(leftovers.size(), "leftover")));
  return kDone;
}

int collect(const StoreRequest& request) {
  const Context& context = request.context;
  LocalStore local(context);
  Meta::Transaction transaction =
      request.is_dry_run ? local.store.meta().read() : local.store.meta().write();
  const Meta::Transaction::Unused unused = transaction.list_unused_layers();
  const std::vector<Leftover> leftovers = list_leftovers(local.store.layout());
  if (!request.is_dry_run) {
    local.store.collect(std::move(transaction));
    empty_trash(local.store.layout(), DeletedByOthers::awaited);
  }
  return answer_collected(request, unused, leftovers);
}

}  // namespace

void add_store_commands(CLI::App& app, Context& context) {
  const auto request = std::make_shared<StoreRequest>(context);
  CLI::App& layers = add_verb(app, context,
                              {"layers", "List the layers of the store, or of an image",
                               "veneer layers\n  veneer layers debian"},
                              [request] { return list_layers(*request); });
  layers.group(kStoreGroup);
  layers.add_option("IMAGE", request->image, "Name or id: its layers, the lowest first")
      ->option_text(" ");
  CLI::App& look = add_verb(
      app, context,
      {"inspect", "Tell all about containers, images or layers",
       "veneer inspect box\n  veneer inspect debian --json   (with the image's configuration)"},
      [request] { return inspect(*request); });
  look.group(kStoreGroup);
  look.add_option("NAME", request->references, "Names or ids; layers by their digests")
      ->required()
      ->option_text("...");
  add_verb(
      app, context,
      {"df", "Tell what takes how much, and what could go",
       "veneer df\n\n"
       "Each image follows: what other images have, too, what it has for itself, and what goes\n"
       "with it: nothing, while containers use it.\n"
       "Reclaimable: of images, what those without containers have for themselves; of\n"
       "containers, those that are not mounted; of layers, what no snapshot has (veneer gc)."},
      [&context] { return show_disk_use(context); })
      .group(kStoreGroup);
  CLI::App& gc =
      add_verb(app, context,
               {"gc", "Delete what nothing refers to, and what was removed", "veneer gc --dry-run"},
               [request] { return collect(*request); });
  gc.group(kStoreGroup);
  gc.add_flag("-n,--dry-run", request->is_dry_run, "Only say what it would be, and why");
}

}  // namespace veneer
