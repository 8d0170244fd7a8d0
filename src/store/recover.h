// What a process that dies leaves behind, and how the next one notices.
//
// A store's directories and its rows are changed one after the other: a directory is published
// before its row is committed, and goes after its row has gone. Death in between leaves an orphan:
// a directory that no row knows, or a variant in a layer's. To look for orphans is to read all
// names and all rows, so it is done only if a process died:
//
//   <root>/opened/<random>   one for each process that has the store open, locked with flock(2)
//
// It goes when the store is closed. One that nobody has locked tells of a death. Its finder takes
// the lock, and then looks for orphans inside a write transaction: whoever publishes does so inside
// one too, so what has no row then never will have. Only a removal may be between its commit and
// its rename; it does not mind if someone else moves the directory first.
//
// A power cut may take the directory of a new snapshot, whose row is durable: where the journal is
// in order, the directory is not synced, which would write out what everyone else has changed. So
// nothing in it was durable either, and its finder makes it anew.
//
// A full disk may have no inode for a mark: who opens the store then has none, and what its death
// leaves is found by check_store() alone.
#pragma once

#include <atomic>
#include <vector>

#include "base/fd.h"
#include "base/path.h"
#include "store/layout.h"

namespace veneer {

class Store;

// The sign that a process has the store open.
class OpenMark {
 public:
  OpenMark(const Layout& layout, bool is_volatile);
  OpenMark(const OpenMark&) = delete;
  OpenMark& operator=(const OpenMark&) = delete;
  ~OpenMark();

  // Before the first change that could become durable without the mark.
  void make_durable();
  // Whether new snapshots that a power cut takes will be made anew: the mark is durable, now or
  // before, and so is what it tells of not before it. Not on a full disk, nor on a file system
  // whose journal is not in order.
  bool covers_new_snapshots();
  // The mark will outlive the process: it could not clear up after itself.
  void keep() { is_kept_ = true; }

  // Locks of the marks of the dead, with their names. They are gone when forget_dead() has run.
  struct Dead {
    RelPath name;
    UniqueFd lock;
  };
  std::vector<Dead> find_dead() const;
  void forget_dead(const std::vector<Dead>& dead) const;

 private:
  void make();

  const Layout& layout_;
  UniqueFd dir_;
  RelPath name_;
  UniqueFd lock_;
  std::atomic<bool> is_durable_ = false;  // or will be ahead of what comes after it
  std::atomic<bool> is_synced_ = false;
  std::atomic<bool> is_kept_ = false;
};

// Stands over a change of directories and rows: unless it came to its end, the mark is kept, and
// the next one to open the store looks for orphans. After an error nobody knows on which side of
// the commit it was, so nothing is undone at once.
class OrphanGuard {
 public:
  explicit OrphanGuard(OpenMark& mark) : mark_(mark) { mark_.make_durable(); }
  OrphanGuard(const OrphanGuard&) = delete;
  OrphanGuard& operator=(const OrphanGuard&) = delete;
  ~OrphanGuard() {
    if (!is_done_) mark_.keep();
  }
  void done() { is_done_ = true; }

 private:
  OpenMark& mark_;
  bool is_done_ = false;
};

// Clears up after processes that died, if one did; not where the database has lost rows.
void recover(Store& store);

// Renames what a publisher has staged to its place. What is there, without a row, is a crash's, as
// publishers hold the write lock; or its row was lost, and it may be all that there is of it until
// the transaction is committed: the two change places, so that at no moment there is nothing.
void put_in_place(int from_dir, PathView from, int to_dir, PathView to);
// Layout::discard() of something that may be gone already.
void discard_if_there(const Layout& layout, int dir, const RelPath& name);
// The same for snapshots/<id>, with what is mounted in it.
void discard_snapshot(const Layout& layout, int64_t id);

}  // namespace veneer
