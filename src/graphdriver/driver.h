// The graph driver: the interface of the store that Veneer began as (moby daemon/graphdriver,
// ProtoDriver + DiffDriver + capabilities), under Veneer's names.
//
// A driver keeps layers under ids. An id with content from create()/add_layer() is an image layer,
// one from create_read_write() a container's; each has at most one parent. Ids are one path
// component of at most limits::kIdBytes bytes (so no slash, NUL, "." or ".."); others are
// invalid_argument everywhere.
//
// All calls may come from several threads and several processes at once. Calls that change one id
// wait for each other; diff() and apply_diff() of different ids run side by side, so that one may
// feed the other.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/idmap.h"
#include "layer/diff.h"
#include "stream/stream.h"

namespace veneer {

// Of a home with id maps: its group, the mapped root's, may pass.
inline constexpr mode_t kHomeMode = 0710;

struct DriverOptions {
  std::string home;                  // absolute; made (its parents too) if it is not there
  std::string run;                   // absolute; mount counts and locks, gone after a reboot
  std::vector<std::string> options;  // --storage-opt strings; unknown ones are invalid_argument
  IdMaps id_maps;                    // container -> host: who owns what get() shows
};

struct Capabilities {
  // diff() of an image layer gives back exactly the bytes that apply_diff() took.
  bool reproduces_exact_diffs = false;
};

struct CreateOptions {
  std::string mount_label;
  std::map<std::string, std::string> storage_options;  // unknown ones are invalid_argument
};

// A layer that is made, and not there yet: it goes with this object, unless it is committed.
class NewLayer {
 public:
  virtual ~NewLayer() = default;
  // The bytes of the regular files in its tar.
  virtual uint64_t size_bytes() const = 0;
  // Makes it durable, and then visible. Once, on any thread. already_exists: nothing is changed.
  virtual void commit() = 0;
};

// One that is there already.
class AddedLayer final : public NewLayer {
 public:
  explicit AddedLayer(uint64_t size_bytes) : size_bytes_(size_bytes) {}
  uint64_t size_bytes() const override { return size_bytes_; }
  void commit() override {}

 private:
  uint64_t size_bytes_;
};

class Driver {
 public:
  virtual ~Driver() = default;

  virtual std::string_view name() const = 0;
  virtual Capabilities capabilities() const { return {}; }
  // For people ("docker info"): pairs of what and how.
  virtual std::vector<std::pair<std::string, std::string>> status() const = 0;
  // Where a layer's parts are ("docker inspect"). not_found.
  virtual std::map<std::string, std::string> metadata(std::string_view id) const = 0;
  virtual bool exists(std::string_view id) const = 0;
  // All ids, sorted.
  virtual std::vector<std::string> list() const = 0;

  // Makes a layer over `parent` ("" for none). already_exists, not_found (the parent). A failure or
  // a crash leaves nothing that is seen.
  virtual void create(std::string_view id, std::string_view parent,
                      const CreateOptions& options) = 0;
  virtual void create_read_write(std::string_view id, std::string_view parent,
                                 const CreateOptions& options) = 0;
  // create() and apply_diff() as one: afterwards, and after a crash at any point, the layer is
  // there whole or not at all. Returns as apply_diff().
  virtual uint64_t add_layer(std::string_view id, std::string_view parent, Source& tar) = 0;
  // add_layer() in two steps, so that a layer can become durable while the one over it is made:
  // `below`, unless null, is the parent: an image layer, from this call, and perhaps not committed
  // yet. It outlives the call, and is committed before this one is. A driver that cannot keep a
  // layer apart adds it at once, as this one does.
  virtual std::unique_ptr<NewLayer> make_layer(std::string_view id, std::string_view parent,
                                               const NewLayer* /*below*/, Source& tar) {
    return std::make_unique<AddedLayer>(add_layer(id, parent, tar));
  }
  // Unmounts what is left and removes the layer. not_found. What is busy is detached.
  virtual void remove(std::string_view id) = 0;

  // The absolute path of the layer's whole tree, mounted if need be. Counted: as many put() as
  // get() unmount it. Counts outlive the process, and end with the mounts at a reboot. not_found.
  virtual std::string get(std::string_view id, std::string_view mount_label) = 0;
  // No error if the layer is not mounted. not_found if there is no such layer.
  virtual void put(std::string_view id) = 0;
  // Before the daemon ends: lets go of what the driver itself holds. Layers stay mounted.
  virtual void cleanup() = 0;

  // Applies an uncompressed layer tar to a layer made by create() over the same parent, and reads
  // `tar` to its end. Returns the bytes of regular files in it. On failure the layer is as it was.
  // failed_precondition if the layer is mounted; corrupt for a tar without its end marker, which
  // may be a part of one.
  virtual uint64_t apply_diff(std::string_view id, std::string_view parent, Source& tar) = 0;
  // The changes from `parent` (any layer; "" for nothing) to `id`, as a layer tar.
  virtual void diff(std::string_view id, std::string_view parent, Sink& to) = 0;
  // The same as a sorted list, and as the bytes of its regular files.
  virtual std::vector<Change> changes(std::string_view id, std::string_view parent) = 0;
  virtual uint64_t diff_size(std::string_view id, std::string_view parent) = 0;
};

}  // namespace veneer
