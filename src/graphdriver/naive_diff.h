// Diffs for drivers that can show a layer as a stack of directories: moby's NaiveDiffDriver,
// without its mounts and its double walk of what both layers share (see layer/diff.h).
#pragma once

#include <string_view>
#include <vector>

#include "base/fd.h"
#include "graphdriver/driver.h"

namespace veneer {

class NaiveDiffDriver : public Driver {
 public:
  void diff(std::string_view id, std::string_view parent, Sink& to) final;
  std::vector<Change> changes(std::string_view id, std::string_view parent) final;
  uint64_t diff_size(std::string_view id, std::string_view parent) final;

 protected:
  explicit NaiveDiffDriver(IdMaps id_maps) : id_maps_(std::move(id_maps)) {}

  // The layer's directories, the topmost first, opened for reading. not_found.
  virtual std::vector<UniqueFd> open_view(std::string_view id) const = 0;

  const IdMaps& id_maps() const { return id_maps_; }

 private:
  struct Views;
  Views open_views(std::string_view id, std::string_view parent) const;

  IdMaps id_maps_;
};

}  // namespace veneer
