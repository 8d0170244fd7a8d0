#include "layer/settle.h"

#include "base/error.h"

namespace veneer {

namespace {

// Makes the staged tree the one over `lower`, which takes reading the tar again if that decides
// where entries go.
void adopt(StagedLayer& staged, const LowerView* lower) {
  if (!staged.tree->depends_on_lower()) return;
  VENEER_CHECK(lower != nullptr);
  if (staged.tree->adopt_lower(*lower)) return;
  staged.tree = std::make_unique<LayerTree>(lower);
  FileRangeSource source(staged.tar.get(), 0, staged.info.size_bytes);
  (void)read_layer_tree(source, *staged.tree);
}

void settle_index(const StagedLayer& staged, int directory, bool is_durable,
                  SettledLayer& settled) {
  settled.index_name = index_name(staged.tree->lower_digest());
  const UniqueFd index = open_at(directory, RelPath::parse_name(settled.index_name, "index"),
                                 O_RDWR | O_CREAT | O_EXCL, 0400);
  settled.index_digest = write_index(*staged.tree, staged.tar.get(), staged.info, index.get());
  if (is_durable) sync_data(index.get());
}

void settle_tree(const StagedLayer& staged, int directory, const LowerView* lower,
                 const SettleOptions& options) {
  make_dir_at(directory, kLayerTreeName, 0755);
  const UniqueFd to = open_dir_at(directory, kLayerTreeName);
  expand_layer(*staged.tree, staged.tar.get(), lower, to.get(), options.expand);
  if (options.is_durable) sync_file_system(to.get());
}

}  // namespace

StagedLayer stage_layer(Source& from, int directory, StageOptions options) {
  StagedLayer staged;
  staged.tar = open_at(directory, kLayerTarName, O_RDWR | O_CREAT | O_EXCL, 0400);
  staged.tree = std::make_unique<LayerTree>();
  staged.info = store_layer_tar(from, staged.tar.get(), *staged.tree);
  if (options.is_durable) sync_data(staged.tar.get());
  return staged;
}

SettledLayer settle_layer(StagedLayer& staged, int directory, const LowerView* lower,
                          const SettleOptions& options) {
  adopt(staged, lower);
  SettledLayer settled{.form = staged.tree->has_lower_links() ? LayerForm::directory : options.form,
                       .index_name = {},
                       .index_digest = {},
                       .file_bytes = staged.tree->file_bytes(),
                       .lower_digest = staged.tree->lower_digest(),
                       .has_lower_links = staged.tree->has_lower_links()};
  if (settled.form == LayerForm::packed)
    settle_index(staged, directory, options.is_durable, settled);
  else
    settle_tree(staged, directory, lower, options);
  return settled;
}

}  // namespace veneer
