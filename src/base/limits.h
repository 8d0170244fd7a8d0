// Every limit on what comes from outside: tars, images, sockets. docs/FORMAT.md repeats them.
// A value of N means that N is accepted and N + 1 refused; each has a test at both.
#pragma once

#include <cstddef>
#include <cstdint>

namespace veneer::limits {

// NAME_MAX and PATH_MAX - 1: what every Linux file system and every system call takes.
inline constexpr size_t kNameBytes = 255;
inline constexpr size_t kPathBytes = 4095;
// Deeper trees than this do not occur, and each level costs a file descriptor or a stack frame.
inline constexpr size_t kPathDepth = 1024;
inline constexpr size_t kLinkTargetBytes = 4095;

// One extended header (PAX 'x' or 'g', GNU 'L' or 'K') of a tar entry.
inline constexpr uint64_t kExtendedHeaderBytes = 1 << 20;
// What all global PAX headers before a tar entry say together: every entry pays for it.
inline constexpr size_t kGlobalHeaderBytes = 65536;
// XATTR_SIZE_MAX, XATTR_NAME_MAX and XATTR_LIST_MAX of linux/limits.h.
inline constexpr size_t kXattrValueBytes = 65536;
inline constexpr size_t kXattrNameBytes = 255;
inline constexpr size_t kXattrListBytes = 65536;
// Data segments of one sparse file; Go's archive/tar caps its map at about this too.
inline constexpr size_t kSparseSegments = 1 << 16;

inline constexpr uint64_t kLayerEntries = 16'000'000;
// Sizes are kept in signed 64-bit off_t; a single file or layer beyond 8 TiB is refused.
inline constexpr uint64_t kFileBytes = uint64_t{1} << 43;
inline constexpr uint64_t kLayerBytes = uint64_t{1} << 43;
// EROFS numbers the 512-byte blocks of a tar with 32 bits, of which all ones is a hole: a larger
// layer cannot have an index. The index itself has room for 16 million names of 150 bytes.
inline constexpr uint64_t kIndexedBytes = uint64_t{0xffffffff} * 512;
inline constexpr uint64_t kIndexBytes = uint64_t{1} << 32;
// What the data of files may take in an index (chunk maps, copies of what the kernel cannot take
// from the tar), beyond as much as the tar has: a sparse file of a few bytes may want gigabytes.
inline constexpr uint64_t kIndexDataBytes = 64 << 20;

// What a compressed layer may make its decoder remember: a zstd window of 1 << 27 bytes, which is
// where zstd itself wants to be asked, and all the memory of an xz decoder.
inline constexpr int kZstdWindowLog = 27;
inline constexpr uint64_t kXzMemoryBytes = 128 << 20;

// Manifests, indexes and configs of images (containerd reads at most 8 MiB).
inline constexpr uint64_t kJsonBytes = 8 << 20;
inline constexpr size_t kJsonDepth = 64;
inline constexpr size_t kImageLayers = 500;
// Values of one document: enough for any index, and what bounds the memory of a parsed one.
inline constexpr size_t kJsonValues = 1 << 17;
// Indexes inside index.json, one in the other.
inline constexpr size_t kIndexDepth = 4;
// Entries of an image's tar: its documents and layers, not what is in the layers.
inline constexpr size_t kArchiveMembers = 1 << 16;
// The path of an image name without its domain, and its tag (distribution/reference).
inline constexpr size_t kImagePathBytes = 255;
inline constexpr size_t kImageTagBytes = 128;

// Ids of the graph driver: one path component.
inline constexpr size_t kIdBytes = 255;

// HTTP: connections of one server at a time, a thread each; a request's line and headers; and the
// JSON of a graph-driver call.
inline constexpr size_t kHttpConnections = 256;
inline constexpr size_t kHttpHeadBytes = 8192;
inline constexpr uint64_t kPluginJsonBytes = 1 << 20;

// Snapshots: keys and names; a label's key and value together, as containerd has it; all labels of
// a snapshot, which go into one message (containerd's limit: 16 MiB); and as many layers as
// overlayfs merges.
inline constexpr size_t kSnapshotKeyBytes = 4096;
inline constexpr size_t kLabelBytes = 4096;
inline constexpr size_t kLabelsBytes = 1 << 20;
inline constexpr size_t kSnapshotDepth = 500;
// One filter of a walk, and a regular expression in it: its compiler recurses a frame a character.
inline constexpr size_t kFilterBytes = 16384;
inline constexpr size_t kFilterPatternBytes = 1024;

}  // namespace veneer::limits
