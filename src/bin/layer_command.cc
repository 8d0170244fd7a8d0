// veneer layer: layers by themselves, without a store. Packed or as directories, and mounted.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/lock.h"
#include "bin/command.h"
#include "bin/json_out.h"
#include "bin/layer_mounts.h"
#include "bin/layer_pack.h"
#include "mount/overlay.h"

namespace veneer {
namespace {

struct LayerRequest {
  explicit LayerRequest(Context& from) : context(from) {}

  Context& context;
  std::vector<std::string> blobs;  // each followed by the directory it goes to
  std::vector<std::string> parents;
  std::string form = "packed";
  std::vector<std::string> layers;
  std::string upper;
  std::string target;
};

int pack(LayerRequest& request) {
  std::vector<PackJob> jobs;
  for (size_t at = 0; at < request.blobs.size(); at += 2)
    jobs.push_back({.blob = request.blobs[at], .directory = request.blobs[at + 1]});
  const PackOptions options{
      .parents = request.parents,
      .form = request.form == "packed" ? LayerForm::packed : LayerForm::directory,
      .wants_blob_digests = request.context.json};
  for (const PackedLayer& layer : pack_layers(jobs, options)) {
    if (!request.context.json) {
      print(fmt::format("{}\n", layer.tar.diff_id.str()));
      continue;
    }
    const SettledLayer& settled = layer.settled;
    JsonOut json;
    json.begin_object().key("blob").string(layer.blob_digest->str());
    json.key("diff_id").string(layer.tar.diff_id.str());
    json.key("size").number(layer.tar.size_bytes);
    json.key("files_size").number(settled.file_bytes);
    if (settled.form == LayerForm::packed) {
      json.key("index").string(settled.index_name);
      json.key("index_digest").string(settled.index_digest.str());
    }
    json.end_object();
    print(json.text() + "\n");
  }
  return kDone;
}

int mount(LayerRequest& request) {
  const UniqueFd target = open_root(request.target);
  const std::vector<OpenedLayer> layers = open_layers(request.layers);
  OverlaySpec spec;
  try {
    for (const OpenedLayer& layer : layers) {
      lock_fd(layer.directory.get(), Lock::shared);  // until the overlay is there
      std::string lower = lower_path(layer);
      // One that is there twice adds nothing, and overlayfs takes no directory twice (ELOOP).
      if (std::ranges::find(spec.lower, lower) == spec.lower.end())
        spec.lower.push_back(std::move(lower));
    }
    if (!request.upper.empty()) {
      const OpenedDir upper = open_or_make_root(absolute(request.upper), 0700);
      (void)try_make_dir_at(upper.fd.get(), "fs", 0755);
      (void)try_make_dir_at(upper.fd.get(), "work", 0700);
      spec.upper = path_of(upper.fd.get()) + "/fs";
      spec.work = path_of(upper.fd.get()) + "/work";
    } else if (spec.lower.size() == 1) {
      // A single layer needs no overlay to be read, but one to hide its whiteouts' devices; and
      // that needs a second lower directory, which must not be the same one.
      (void)try_make_dir_at(layers.front().directory.get(), "empty", 0700);
      spec.lower.push_back(path_of(layers.front().directory.get()) + "/empty");
    }
    attach_mount(mount_overlay(spec).get(), target.get(), ".");
  } catch (const Error&) {
    for (const OpenedLayer& layer : layers) unlock_fd(layer.directory.get());
    let_go(spec.lower);
    throw;
  }
  return kDone;
}

int unmount(LayerRequest& request) {
  // An open mount is busy: what remains open is the directory above it.
  const RelPath target = RelPath::clamp(path_of(open_root(request.target, O_PATH).get()));
  const UniqueFd above = open_root("/" + std::string(target.parent()));
  if (!is_mount_point_at(above.get(), target.leaf()))
    fail(Code::failed_precondition, "nothing is mounted on {}", request.target);
  const std::optional<std::vector<std::string>> lowers = stack_lowers("/" + target.str());
  if (!lowers)
    fail(Code::failed_precondition, "what is mounted on {} is not a stack of layers",
         request.target);
  if (!unmount_at(above.get(), target.leaf()))
    fail(Code::failed_precondition, "nothing is mounted on {}", request.target);
  let_go(*lowers);
  return kDone;
}

struct LayerVerb {
  const char* name;
  const char* help;
  const char* example;
  int (*run)(LayerRequest& request);
};

constexpr LayerVerb kLayerVerbs[] = {
    {"pack", "Make layers of blobs: a tar and an index each, or a directory",
     "veneer layer pack base.tar.gz base\n"
     "  veneer layer pack dev.tar.gz dev node.tar.zst node --parent base",
     pack},
    {"mount", "Mount a stack of layers, the topmost first",
     "veneer layer mount node dev base /mnt\n  veneer layer mount --upper work node dev base /mnt",
     mount},
    {"unmount", "Undo a mount, and those of layers that no other needs",
     "veneer layer unmount /mnt", unmount},
};

void add_pack_options(CLI::App& command, LayerRequest& request) {
  command
      .add_option("BLOB", request.blobs,
                  "A layer, compressed or not (- is standard input), and where it goes: a "
                  "directory that is made, or empty. The lowest layer first")
      ->option_text("DIR [BLOB DIR]...")
      ->required();
  command.parse_complete_callback([&request] {
    if (request.blobs.size() % 2 != 0)
      throw CLI::ValidationError(request.blobs.back(), "no directory for this blob");
  });
  command
      .add_option("--parent", request.parents,
                  "A layer below all these, the nearest first; may be repeated")
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

void add_mount_options(CLI::App& command, LayerRequest& request) {
  command.add_option("DIR", request.layers, "The layers, the topmost first, and then the target")
      ->required()
      ->option_text("... TARGET")
      ->expected(2, CLI::detail::expected_max_vector_size);
  command.add_option("--upper", request.upper, "Where changes go: makes the mount writable")
      ->option_text("DIR");
}

int run_layer_verb(const LayerVerb& verb, LayerRequest& request) {
  if (verb.run == mount) {
    request.target = request.layers.back();
    request.layers.pop_back();
  }
  return verb.run(request);
}

}  // namespace

void add_layer_command(CLI::App& app, Context& context) {
  const auto request = std::make_shared<LayerRequest>(context);
  CLI::App* group = app.add_subcommand("layer", "Layers by themselves, without a store");
  group->require_subcommand(1);
  group->fallthrough();
  for (const LayerVerb& verb : kLayerVerbs) {
    CLI::App* command = group->add_subcommand(verb.name, verb.help);
    command->fallthrough();
    command->footer(fmt::format("Example:\n  {}", verb.example));
    if (verb.run == pack) add_pack_options(*command, *request);
    if (verb.run == mount) add_mount_options(*command, *request);
    if (verb.run == unmount)
      command->add_option("TARGET", request->target, "Where it is mounted")
          ->required()
          ->option_text(" ");
    command->callback([&context, request, &verb] {
      context.verb = fmt::format("layer {}", verb.name);
      context.action = [request, &verb] { return run_layer_verb(verb, *request); };
    });
  }
}

}  // namespace veneer
