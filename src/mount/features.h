// What this kernel and this file system can do: probed by doing it, never inferred from a version.
#pragma once

#include <string>
#include <vector>

namespace veneer {

struct Probe {
  std::string name;     // "overlayfs", "file-backed EROFS", ...
  std::string enables;  // what it is for, for people
  bool works = false;
  std::string why_not;  // the failing step and its error; "" if it works
};

// Makes sure that overlayfs can be used at all: `modprobe overlay` if there is a modprobe (that it
// is missing or fails is no error), then /proc/filesystems, then a probe mount in `dir`, which lies
// on the file system in question and is left as it was. Throws unsupported with what to do.
void require_overlay(int dir);

// False where the file system does not report entry types (xfs made with ftype=0, for one).
bool supports_d_type(int dir);

// All probes, each in a directory of its own in `dir`, which is left as it was. Never throws for a
// feature that is missing.
std::vector<Probe> probe_features(int dir);

// The one of them that packed layers need: file-backed EROFS. Throws for what says nothing about
// the kernel (a full disk, an I/O error), as layers would be kept in the other form for nothing.
Probe probe_packed(int dir);

}  // namespace veneer
