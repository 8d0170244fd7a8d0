// The database of a store looked at as a whole, below the rules that keep it whole: what a damaged
// disk or another program did to it. Each call has a connection of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "store/layout.h"

namespace veneer {

// What SQLite says of the file (PRAGMA integrity_check); nothing if all is well.
std::vector<std::string> find_database_damage(const Layout& layout);

// A row that refers to one that is not there.
struct BrokenReference {
  std::string table;
  std::string target;              // the table that lacks a row
  int64_t row = 0;                 // its id, in tables that have integers for that
  std::string name;                // what people know it by
  bool is_lone = false;            // remove_lone_rows() removes it
  std::vector<int64_t> snapshots;  // those that cannot be read for it, in order
};
std::vector<BrokenReference> find_broken_references(const Layout& layout);

// These wait for other writers, and so must not be called while a transaction that writes is open
// in this thread. Durable when they return, unless the store is volatile.
class LoneRows {
 public:
  LoneRows(const Layout& layout, bool is_volatile) : layout_(layout), is_volatile_(is_volatile) {}

  // Labels and variants whose snapshot or layer is not there. How many.
  int64_t remove_lone_rows() const;
  // A variant that no snapshot has. False if it was not there, or a snapshot has it.
  bool remove_variant(int64_t variant) const;
  // What the index of a variant is now.
  void set_digest(int64_t variant, const Digest& digest) const;
  // What the tar of a layer says.
  void set_file_bytes(int64_t layer, uint64_t file_bytes) const;

 private:
  class Writer;
  const Layout& layout_;
  bool is_volatile_;
};

}  // namespace veneer
