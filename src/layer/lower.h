// The layers below a layer, as the tree of that layer asks for them.
#pragma once

#include "layer/diff.h"
#include "layer/tree.h"
#include "layer/view.h"

namespace veneer {

// Looks names up in a stack of overlay directories (mounted packed layers, directory-form layers),
// without mounting the stack, by the marks that the mount of the new layer will heed. The view's
// descriptors are borrowed. A view without layers has no names.
class LowerView final : public LowerNames {
 public:
  explicit LowerView(View view) : view_(std::move(view)), reader_(view_) {}

  std::optional<LowerEntry> find(const RelPath& path) const override;
  std::vector<std::string> list_root() const override;
  // The content of the regular file at `path`, which find() found.
  UniqueFd open_data(const RelPath& path) const;

 private:
  // The merged directory that `path` lies in, and the entry in it.
  struct Place;
  std::optional<Place> walk(const RelPath& path) const;

  View view_;
  ViewReader reader_;
};

}  // namespace veneer
