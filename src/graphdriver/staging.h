// A directory in the making: private until published, removed if that never comes.
//
// It is locked with flock(2) while its maker lives, so that remove_stale() of any process can tell
// the work of the living from what a crash left.
#pragma once

#include "base/fd.h"
#include "base/path.h"

namespace veneer {

class Staging {
 public:
  // Makes <dir>/<prefix><random>, 0700. `dir` is borrowed.
  Staging(int dir, std::string_view prefix);
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging();  // removes it unless published

  int fd() const { return fd_.get(); }
  const RelPath& name() const { return name_; }
  // Renames it to <to_dir>/<name>: the commit point. EEXIST if that is there.
  void publish(int to_dir, PathView name);
  // Removes it now, and reports.
  void remove();

 private:
  int dir_;
  RelPath name_;
  UniqueFd fd_;
};

// Takes what is at <from_dir>/<name> out of sight with one rename into `staging_dir` (the commit
// point of a removal), then removes it, and detaches what is mounted inside.
void remove_via_staging(int staging_dir, int from_dir, PathView name);

// Removes the entries of `dir` whose names start with `prefix` and that no one has locked. What
// cannot be removed stays.
void remove_stale(int dir, std::string_view prefix);

}  // namespace veneer
