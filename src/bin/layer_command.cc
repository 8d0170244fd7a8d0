// veneer layer: layers by themselves, without a store. Packed or as directories, and mounted.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/error.h"
#include "bin/command.h"
#include "bin/json_out.h"
#include "bin/layer_mounts.h"
#include "layer/expand.h"
#include "layer/lower.h"
#include "layer/pack.h"
#include "mount/erofs.h"
#include "mount/overlay.h"
#include "stream/compress.h"
#include "stream/prefetch.h"

namespace veneer {
namespace {

constexpr PathView kTarName = "layer.tar";
constexpr PathView kTreeName = "fs";

struct Request {
  explicit Request(Context& from) : context(from) {}

  Context& context;
  std::string blob;
  std::string directory;
  std::vector<std::string> parents;
  std::string form = "packed";
  std::vector<std::string> layers;
  std::string upper;
  std::string target;
};

// A layer's directory, opened for overlayfs to merge: its tree, or a mount of its index.
struct OpenedLayer {
  UniqueFd directory;
  UniqueFd tree;
  bool is_packed = false;
};

// An index that holds what lower layers contributed is the one to use over these.
RelPath choose_index(int directory, const std::string& path) {
  RelPath chosen;
  bool is_special = false;
  DirReader reader(directory);
  while (const std::optional<DirEntry> entry = reader.next()) {
    const std::string_view name = entry->name();
    if (!name.starts_with("layer.") || !name.ends_with(".erofs")) continue;
    const bool is_plain = name == "layer.erofs";
    if (is_plain && is_special) continue;
    if (!is_plain && is_special)
      fail(Code::failed_precondition, "{} is packed over several parents; keep one of its indexes",
           path);
    chosen = RelPath::parse_name(name, "index");
    is_special = !is_plain;
  }
  if (chosen.empty())
    fail(Code::not_found, "{} holds no layer: neither {} nor an index", path, kTreeName.c_str());
  return chosen;
}

OpenedLayer open_layer(const std::string& path) {
  OpenedLayer layer;
  layer.directory = open_root(path);
  if (auto tree = maybe_open_dir_at(layer.directory.get(), kTreeName)) {
    layer.tree = std::move(*tree);
    return layer;
  }
  const RelPath index = choose_index(layer.directory.get(), path);
  layer.tree = mount_erofs(layer.directory.get(), {.index = index, .device = kTarName});
  layer.is_packed = true;
  return layer;
}

std::vector<OpenedLayer> open_layers(const std::vector<std::string>& paths) {
  std::vector<OpenedLayer> layers;
  for (const std::string& path : paths) layers.push_back(open_layer(path));
  return layers;
}

// --- pack ---

struct Packed {
  LayerTarInfo tar;
  uint64_t file_bytes = 0;
  std::vector<std::string> names;  // of what was written beside the tar
};

void write_index_file(const LayerTree& tree, int directory, int tar, Packed& packed) {
  const std::string name = index_name(tree.lower_digest());
  const UniqueFd index =
      open_at(directory, RelPath::parse_name(name, "index"), O_RDWR | O_CREAT | O_EXCL, 0400);
  (void)write_index(tree, tar, packed.tar, index.get());
  sync_data(index.get());
  packed.names.push_back(name);
}

// The tree over the parents: the same one if they contribute no more than attributes.
const LayerTree& settle(LayerTree& plain, std::unique_ptr<LayerTree>& again, const LowerView& lower,
                        int tar, uint64_t size) {
  if (!plain.depends_on_lower() || plain.adopt_lower(lower)) return plain;
  again = std::make_unique<LayerTree>(&lower);
  FileRangeSource source(tar, 0, size);
  read_layer_tree(source, *again);
  return *again;
}

Packed pack_into(const Request& request, Source& from, int directory) {
  const std::vector<OpenedLayer> parents = open_layers(request.parents);
  View view;
  for (const OpenedLayer& parent : parents) view.layers.push_back(parent.tree.get());
  const LowerView lower(view);

  const UniqueFd tar = open_at(directory, kTarName, O_RDWR | O_CREAT | O_EXCL, 0400);
  LayerTree plain;
  Packed packed{.tar = store_layer_tar(from, tar.get(), plain), .names = {}};
  packed.file_bytes = plain.file_bytes();
  const bool wants_packed = request.form == "packed";
  if (wants_packed && !plain.has_lower_links())
    write_index_file(plain, directory, tar.get(), packed);
  std::unique_ptr<LayerTree> again;
  const LayerTree& tree = settle(plain, again, lower, tar.get(), packed.tar.size_bytes);
  if (wants_packed && !tree.has_lower_links()) {
    if (tree.lower_digest()) write_index_file(tree, directory, tar.get(), packed);
  } else {
    make_dir_at(directory, kTreeName, 0755);
    const UniqueFd to = open_dir_at(directory, kTreeName);
    expand_layer(tree, tar.get(), &lower, to.get(), {});
    sync_file_system(to.get());
    packed.names.emplace_back(kTreeName.c_str());
  }
  sync_data(tar.get());
  sync_fd(directory);
  return packed;
}

void discard(int directory) {
  for (const std::string& name : list_dir(directory))
    (void)remove_tree_at(directory, RelPath::parse_name(name, "name"));
}

int pack(Request& request) {
  const UniqueFd blob =
      request.blob == "-" ? dup_fd(STDIN_FILENO) : open_root(request.blob, O_RDONLY);
  const OpenedDir directory = open_or_make_root(absolute(request.directory), 0700);
  if (!list_dir(directory.fd.get()).empty())
    fail(Code::already_exists, "{} is not empty", request.directory);
  FdSource stored(blob.get());
  HashingSource hashed(stored);
  DecompressingSource plain(hashed);
  PrefetchSource source(plain);
  Packed packed;
  try {
    packed = pack_into(request, source, directory.fd.get());
  } catch (Error& error) {
    discard(directory.fd.get());
    error.add_context(request.blob);
    throw;
  }
  if (!request.context.json) {
    print(fmt::format("{}\n", packed.tar.diff_id.str()));
    return kDone;
  }
  JsonOut json;
  json.begin_object().key("blob").string(hashed.digest().str());
  json.key("diff_id").string(packed.tar.diff_id.str());
  json.key("size").number(packed.tar.size_bytes).key("files_size").number(packed.file_bytes);
  json.key("written").begin_array();
  for (const std::string& name : packed.names) json.string(name);
  json.end_array().end_object();
  print(json.text() + "\n");
  return kDone;
}

// --- mount ---

// Packed layers are mounted on <layer>/mnt: overlayfs wants paths to show, and other programs too.
std::string lower_path(const OpenedLayer& layer) {
  const std::string directory = path_of(layer.directory.get());
  if (!layer.is_packed) return directory + "/" + kTreeName.c_str();
  (void)try_make_dir_at(layer.directory.get(), "mnt", 0700);
  if (!is_mount_point_at(layer.directory.get(), "mnt"))
    attach_mount(layer.tree.get(), layer.directory.get(), "mnt");
  return directory + "/mnt";
}

int mount(Request& request) {
  const UniqueFd target = open_root(request.target);
  const std::vector<OpenedLayer> layers = open_layers(request.layers);
  OverlaySpec spec;
  try {
    for (const OpenedLayer& layer : layers) {
      lock_layer(layer.directory.get());  // until the overlay is there
      spec.lower.push_back(lower_path(layer));
    }
    if (!request.upper.empty()) {
      const OpenedDir upper = open_or_make_root(absolute(request.upper), 0700);
      (void)try_make_dir_at(upper.fd.get(), "fs", 0755);
      (void)try_make_dir_at(upper.fd.get(), "work", 0700);
      spec.upper = path_of(upper.fd.get()) + "/fs";
      spec.work = path_of(upper.fd.get()) + "/work";
    } else if (spec.lower.size() == 1) {
      // A single layer needs no overlay to be read, but one to hide its whiteouts' devices; and
      // that needs a second lower directory, which must not be the same one (ELOOP).
      (void)try_make_dir_at(layers.front().directory.get(), "empty", 0700);
      spec.lower.push_back(path_of(layers.front().directory.get()) + "/empty");
    }
    attach_mount(mount_overlay(spec).get(), target.get(), ".");
  } catch (const Error&) {
    for (const OpenedLayer& layer : layers) unlock_layer(layer.directory.get());
    let_go(spec.lower);
    throw;
  }
  return kDone;
}

int unmount(Request& request) {
  // An open mount is busy: what remains open is the directory above it.
  const RelPath target = RelPath::clamp(path_of(open_root(request.target, O_PATH).get()));
  const UniqueFd above = open_root("/" + std::string(target.parent()));
  const std::vector<std::string> lowers = overlay_lowers("/" + target.str());
  if (!unmount_at(above.get(), target.leaf()))
    fail(Code::failed_precondition, "nothing is mounted on {}", request.target);
  let_go(lowers);
  return kDone;
}

struct Verb {
  const char* name;
  const char* help;
  const char* example;
  int (*run)(Request& request);
};

constexpr Verb kVerbs[] = {
    {"pack", "Make a layer of a blob: its tar and an index, or a directory",
     "veneer layer pack base.tar.gz base\n  veneer layer pack node.tar.zst node --parent dev "
     "--parent base",
     pack},
    {"mount", "Mount a stack of layers, the topmost first",
     "veneer layer mount node dev base /mnt\n  veneer layer mount --upper work node dev base /mnt",
     mount},
    {"unmount", "Undo a mount, and those of layers that no other needs",
     "veneer layer unmount /mnt", unmount},
};

void add_pack_options(CLI::App& command, Request& request) {
  command.add_option("BLOB", request.blob, "The layer, compressed or not; - is standard input")
      ->required();
  command.add_option("DIR", request.directory, "Where the layer goes; made, or empty")->required();
  command
      .add_option("--parent", request.parents, "A layer below, the nearest first; may be repeated")
      ->option_text("DIR")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--form", request.form, "packed (the default) or directory")
      ->option_text("FORM")
      ->check([](const std::string& form) {
        const bool is_known = form == "packed" || form == "directory";
        return std::string(is_known ? "" : "it is packed or directory");
      });
}

void add_mount_options(CLI::App& command, Request& request) {
  command.add_option("DIR", request.layers, "The layers, the topmost first, and then the target")
      ->required()
      ->expected(2, CLI::detail::expected_max_vector_size);
  command.add_option("--upper", request.upper, "Where changes go: makes the mount writable")
      ->option_text("DIR");
}

int run_verb(const Verb& verb, Request& request) {
  if (verb.run == mount) {
    request.target = request.layers.back();
    request.layers.pop_back();
  }
  return verb.run(request);
}

}  // namespace

void add_layer_command(CLI::App& app, Context& context) {
  const auto request = std::make_shared<Request>(context);
  CLI::App* group = app.add_subcommand("layer", "Layers by themselves, without a store");
  group->require_subcommand(1);
  group->fallthrough();
  for (const Verb& verb : kVerbs) {
    CLI::App* command = group->add_subcommand(verb.name, verb.help);
    command->fallthrough();
    command->footer(fmt::format("Example:\n  {}", verb.example));
    if (verb.run == pack) add_pack_options(*command, *request);
    if (verb.run == mount) add_mount_options(*command, *request);
    if (verb.run == unmount)
      command->add_option("TARGET", request->target, "Where it is mounted")->required();
    command->callback([&context, request, &verb] {
      context.verb = fmt::format("layer {}", verb.name);
      context.action = [request, &verb] { return run_verb(verb, *request); };
    });
  }
}

}  // namespace veneer
