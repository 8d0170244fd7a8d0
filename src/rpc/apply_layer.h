// A blob applied to a snapshot: the work of the differ's Apply, without its protocol.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "rpc/read_ahead.h"
#include "store/store.h"
#include "stream/stream.h"

namespace veneer {

// The label of a blob, and the annotation of its descriptor, that give its DiffID; and the label of
// a snapshot that does so for the layer that is to come (containerd 2.4).
inline constexpr std::string_view kUncompressedLabel = "containerd.io/uncompressed";
inline constexpr std::string_view kDiffIdLabel = "containerd.io/snapshot/diff-id";

struct LayerDescriptor {
  std::string media_type;
  Digest digest;
  std::optional<uint64_t> size_bytes;
  std::map<std::string, std::string> annotations;
};

// Where blobs come from. Called from several threads, one after the other.
class Blobs {
 public:
  virtual ~Blobs() = default;
  virtual std::unique_ptr<Source> open(const Digest& digest) = 0;
  // Nothing also where nobody can be asked.
  virtual std::optional<std::string> maybe_label(const Digest& digest, std::string_view key) = 0;
  // Nobody waits for the result any more.
  virtual bool is_cancelled() const = 0;
  // What will be asked for after a layer that lies over those with the DiffIDs `below`; to be
  // called later, on another thread, after the end of this object, too. Nothing where nobody can be
  // asked.
  virtual ReadAhead::Find maybe_finder(const Digest& layer, std::vector<Digest> below) const = 0;
};

struct ApplyJob {
  std::string_view space;
  std::vector<Mount> mounts;  // of the snapshot, as the snapshotter gave them
  LayerDescriptor layer;
};

struct AppliedLayer {
  Digest diff_id;
  uint64_t size_bytes = 0;   // uncompressed
  bool was_read = false;     // else the store had it
  Import::Times times = {};  // also of what was read ahead, before the call
};

// Makes the layer the content of the active snapshot that the mounts are of, which is staged from
// then on: to be committed without another look at its files. A layer that the store has, by the
// DiffID that it is said to have, is attached unread; any other is read, verified, packed, and
// synced. Nothing has changed until the end, so the snapshot can be removed at any time, and after
// an error.
//
// unsupported, before anything is read, for what another differ may be able to do: other media
// types, mounts that are not ours, a snapshot that is not for extraction (it may be written to
// afterwards), and one that something was written to. Not for anything else. failed_precondition
// for snapshots that are not active, or have another layer already; corrupt for a blob that is not
// what its digest says; unavailable when cancelled.
//
// With `ahead`, what comes next is read there meanwhile, and what was read there is taken.
AppliedLayer apply_to_snapshot(Store& store, const ApplyJob& job, Blobs& blobs, ReadAhead* ahead);

// The same for an active snapshot for extraction that nothing was written to, whose label
// kDiffIdLabel names a layer that the store has: a client that finds its mounts to be read only
// (containerd 2.4) neither fetches nor applies that layer, and commits. Anything else is left to be
// applied.
void attach_known_layer(Store& store, std::string_view space, std::string_view key);

}  // namespace veneer
