// How deletions are written: as names in layer tars, as xattrs and devices in overlay directories.
//
// Sources: image-spec layer.md "Whiteouts"; Documentation/filesystems/overlayfs.rst "Whiteouts and
// opaque directories", "Nesting overlayfs mounts"; moby pkg/archive for the names aufs left behind.
#pragma once

#include <sys/stat.h>

#include <string>
#include <string_view>

namespace veneer {

inline constexpr std::string_view kWhiteoutPrefix = ".wh.";
inline constexpr std::string_view kOpaqueName = ".wh..wh..opq";
inline constexpr std::string_view kAufsPrefix = ".wh..wh.";
// The directory whose files other entries of an aufs layer are hard links to.
inline constexpr std::string_view kAufsLinkDir = ".wh..wh.plnk";

enum class TarNameKind {
  none,           // an entry like any other
  whiteout,       // removes `target` from the layers below
  opaque,         // removes everything that the layers below have in this directory
  aufs_metadata,  // describes no file: ".wh..wh.aufs", ".wh..wh.orph", ".wh..wh.plnk", ...
};

struct TarName {
  TarNameKind kind = TarNameKind::none;
  std::string_view target;  // of a whiteout: a part of the name that was parsed
};

// What the last component of a tar entry's name says. A whiteout of a ".wh..wh." name and aufs's
// metadata look alike; no layer can hold the former's target, so all of them are metadata (entries
// inside such a directory are for the caller to find). Throws corrupt for ".wh.", ".wh.." and
// ".wh...": they would remove the directory itself, or its parent.
TarName parse_tar_name(std::string_view name);

// True for names that a layer tar cannot hold as files, since they would be read as whiteouts.
inline bool is_reserved_name(std::string_view name) {
  return name.starts_with(kWhiteoutPrefix);
}

// ".wh." and the name.
std::string whiteout_name(std::string_view target);

// A character device 0:0, the whiteout of an overlay directory.
inline bool is_whiteout_device(const struct stat& st) {
  return S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

}  // namespace veneer
