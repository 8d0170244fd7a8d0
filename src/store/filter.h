// containerd's filters over snapshots (pkg/filters): `kind==committed,labels."a.b"~=^x`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "store/snapshotter.h"

namespace veneer {

// One filter is terms joined by commas, all of which must hold; a snapshot is taken if one of
// several filters takes it, or if there are none. A term is a field, which must be present, or a
// field, an operator (==, !=, ~= for a regular expression, RE2-like syntax as ECMAScript has it)
// and a value, which may be quoted as in Go. Fields: name, parent, kind (lower case),
// labels."key" or labels.key. Other fields are never present.
class SnapshotFilter {
 public:
  // invalid_argument, with the offset; resource_exhausted over limits::kFilterBytes.
  explicit SnapshotFilter(const std::vector<std::string>& filters);
  ~SnapshotFilter();
  bool matches(const SnapshotInfo& info) const;

 private:
  struct Term;
  std::vector<std::vector<Term>> filters_;
};

}  // namespace veneer
