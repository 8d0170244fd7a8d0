#include "bin/layer_pack.h"

#include <unistd.h>

#include <optional>

#include "base/error.h"
#include "bin/command.h"
#include "bin/layer_mounts.h"
#include "layer/side_by_side.h"
#include "stream/compress.h"

namespace veneer {

namespace {

class Packing {
 public:
  Packing(const std::vector<PackJob>& jobs, const PackOptions& options)
      : options_(options), parents_(open_layers(options.parents)) {
    for (const PackJob& job : jobs) layers_.push_back(open_job(job));
  }

  std::vector<PackedLayer> run() {
    try {
      run_side_by_side(
          sizes(), layers_at_once(),
          {.work = [this](size_t at, const std::stop_token& stop) { stage(layers_[at], stop); },
           .take = [this](size_t at) { settle(at); }});
    } catch (...) {
      for (const Layer& layer : layers_) remove_children(layer.directory.get());
      throw;
    }
    std::vector<PackedLayer> packed;
    for (Layer& layer : layers_)
      packed.push_back({.blob_digest = layer.blob_digest,
                        .tar = layer.staged.info,
                        .settled = std::move(layer.settled)});
    return packed;
  }

 private:
  struct Layer {
    std::string name;  // of the blob
    UniqueFd blob;
    std::string path;
    UniqueFd directory;
    std::optional<Digest> blob_digest;
    StagedLayer staged;
    bool is_settled = false;
    SettledLayer settled;
  };

  Layer open_job(const PackJob& job) const {
    Layer layer;
    layer.name = job.blob;
    layer.blob = job.blob == "-" ? dup_fd(STDIN_FILENO) : open_root(job.blob, O_RDONLY);
    layer.path = absolute(job.directory);
    layer.directory = open_or_make_root(layer.path, 0700).fd;
    if (!list_dir(layer.directory.get()).empty())
      fail(Code::already_exists, "{} is not empty", job.directory);
    const std::string real_path = path_of(layer.directory.get());
    for (const Layer& other : layers_)
      if (path_of(other.directory.get()) == real_path)
        fail(Code::invalid_argument, "{} is given twice", job.directory);
    return layer;
  }

  // Of the blobs; what is not a file tells none.
  std::vector<uint64_t> sizes() const {
    std::vector<uint64_t> sizes;
    for (const Layer& layer : layers_) {
      const struct stat st = stat_fd(layer.blob.get());
      sizes.push_back(S_ISREG(st.st_mode) ? static_cast<uint64_t>(st.st_size) : UINT64_MAX);
    }
    return sizes;
  }

  // On a thread of its own. What does not depend on the layers below is settled there too.
  void stage(Layer& layer, const std::stop_token& stop) const {
    FdSource stored(layer.blob.get());
    std::optional<HashingSource> hashed;
    if (options_.wants_blob_digests) hashed.emplace(stored);
    DecompressingSource plain(hashed ? static_cast<Source&>(*hashed) : stored);
    CountingSource stoppable(plain, [&stop](size_t) {
      if (stop.stop_requested()) fail(Code::unavailable, "stopped");
    });
    try {
      layer.staged = stage_layer(stoppable, layer.directory.get(), {});
      if (!layer.staged.tree->depends_on_lower()) settle_over(layer, nullptr);
    } catch (Error& error) {
      error.add_context(layer.name);
      throw;
    }
    if (hashed) layer.blob_digest = hashed->digest();
  }

  // When all layers below are settled.
  void settle(size_t at) {
    Layer& layer = layers_[at];
    try {
      if (!layer.is_settled) {
        const LowerView lower(view_below(at));
        settle_over(layer, &lower);
      }
      layer.staged.tree.reset();
      sync_fd(layer.directory.get());
    } catch (Error& error) {
      error.add_context(layer.name);
      throw;
    }
  }

  void settle_over(Layer& layer, const LowerView* lower) const {
    layer.settled =
        settle_layer(layer.staged, layer.directory.get(), lower, {.form = options_.form});
    layer.is_settled = true;
  }

  View view_below(size_t at) {
    while (opened_.size() < at) opened_.push_back(open_layer(layers_[opened_.size()].path));
    View view;
    for (size_t below = at; below-- > 0;) view.layers.push_back(opened_[below].tree.get());
    for (const OpenedLayer& parent : parents_) view.layers.push_back(parent.tree.get());
    return view;
  }

  const PackOptions& options_;
  std::vector<OpenedLayer> parents_;
  std::vector<Layer> layers_;
  std::vector<OpenedLayer> opened_;  // the first of layers_, where one above needed them
};

}  // namespace

std::vector<PackedLayer> pack_layers(const std::vector<PackJob>& jobs, const PackOptions& options) {
  return Packing(jobs, options).run();
}

}  // namespace veneer
