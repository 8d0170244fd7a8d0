// User and group id maps, container to host, as Docker's userns-remap gives them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace veneer {

struct IdRange {
  uint32_t container = 0;
  uint32_t host = 0;
  uint32_t size = 0;
};

// An empty map is the identity.
class IdMap {
 public:
  IdMap() = default;
  // Throws invalid_argument for empty, overflowing or overlapping ranges.
  explicit IdMap(std::vector<IdRange> ranges);
  // "container:host:size[,...]", as in subuid options and containerd's labels.
  static IdMap parse(std::string_view text);

  bool is_identity() const { return ranges_.empty(); }
  const std::vector<IdRange>& ranges() const { return ranges_; }
  // Throw invalid_argument for an id that no range holds.
  uint32_t to_host(uint32_t id) const;
  uint32_t to_container(uint32_t id) const;

  // The same ids inside, each to itself: what holds no others.
  IdMap inside() const;
  // With the root of the host too, whom the map may have no id for: the highest that is free.
  IdMap with_host_root() const;

 private:
  std::vector<IdRange> ranges_;
};

struct IdMaps {
  IdMap uids;
  IdMap gids;

  bool is_identity() const { return uids.is_identity() && gids.is_identity(); }
};

}  // namespace veneer
