// What containerd's unpacker says with labels when it prepares a snapshot to extract a layer into
// (core/unpack/unpacker.go), and what can be done about it before any byte is fetched.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/snapshotter.h"

namespace veneer {

// The ChainID that the prepared snapshot will be committed for.
inline constexpr std::string_view kSnapshotRef = "containerd.io/snapshot.ref";
// The ChainID of the layer below, also where layers are extracted side by side and none is given as
// the parent (containerd 2.3).
inline constexpr std::string_view kParentChainId = "containerd.io/snapshot/parent-chain-id";

// Whether a snapshot of that key is made to take a layer and be committed, and for nothing else:
// containerd says so with the key's first word (snapshots.UnpackKeyPrefix), and so do Docker and
// BuildKit.
bool is_extraction(std::string_view key);

// Whether such a snapshot is to take a layer without those below it, which it gets when it is
// committed. containerd 2.2 has no label that says so: there every extraction without a parent
// counts.
bool is_extracted_alone(std::string_view key, std::string_view parent, const Labels& labels);

// The committed snapshot that somebody else's extraction of the same layer over the same parent
// has left: containerd, when told that it exists, looks for it by its label and adopts it, in
// another namespace too. Nothing if the labels do not ask, or there is none.
std::optional<std::string> maybe_extracted(Snapshotter& snapshotter, std::string_view parent,
                                           const Labels& labels);

// The mounts to answer such a Prepare with. A layer that is extracted without the ones below it
// gets an overlay of nothing but an upper directory: containerd writes into that, whiteouts as
// overlayfs has them, and mounts nothing; over a bind mount it would carry out deletions, in an
// empty directory, and lose them. All versions since 1.2 can do it.
std::vector<Mount> extraction_mounts(std::string_view key, std::string_view parent,
                                     const Labels& labels, std::vector<Mount> mounts);

}  // namespace veneer
