#include "rpc/pack_on_commit.h"

#include <optional>
#include <utility>

#include "base/error.h"
#include "store/one_layer.h"
#include "store/recover.h"

namespace veneer {

namespace {

bool can_be_packed(Store& store, const SnapshotRecord& snapshot, const CommitOptions& options) {
  const bool is_rebased = options.parent && *options.parent != snapshot.info.parent;
  return snapshot.info.kind == Kind::active && !snapshot.variant && !is_rebased &&
         store.form() == Form::packed;
}

void stage(Store& store, const SnapshotRecord& snapshot, std::optional<OneLayer>& layer) {
  LayerBlob blob;
  blob.write = [&](Sink& to) {
    store.write_layer(snapshot.id, to, {.id_maps = {}, .epoch = {}, .keeps_nanoseconds = true});
  };
  layer.emplace(store, snapshot.parent, std::move(blob));
}

// False, with nothing done, if somebody lies over the directory already, or the layer has gone.
bool replace_directory(Store& store, const SnapshotRecord& seen, OneLayer& layer) {
  Meta::Transaction transaction = store.meta().write();
  SnapshotRecord snapshot = transaction.snapshot(seen.id);
  if (snapshot.info.kind != Kind::committed || snapshot.variant ||
      transaction.has_children(seen.id))
    return false;
  OrphanGuard orphans(store.open_mark());
  snapshot.variant = layer.publish(transaction);
  if (!snapshot.variant) {
    orphans.done();
    return false;
  }
  snapshot.usage = snapshot.variant->usage;
  transaction.update_snapshot(snapshot);
  transaction.commit();
  orphans.done();
  store.discard_snapshot(seen.id);
  return true;
}

}  // namespace

PackOnCommit::PackOnCommit(Snapshotter& inner, Store& store, std::string_view space, const Log& log,
                           std::function<void()> on_removed)
    : ForwardingSnapshotter(inner),
      store_(store),
      space_(space),
      log_(log),
      on_removed_(std::move(on_removed)) {}

void PackOnCommit::commit(std::string_view name, std::string_view key,
                          const CommitOptions& options) {
  const auto seen = store_.meta().read().maybe_snapshot(space_, key);
  std::optional<OneLayer> layer;
  const auto log_failure = [&](const Error& error) {
    log_.write(
        Log::Level::info,
        {{"event", "not packed"}, {"subject", std::string(key)}, {"error", error.message()}});
  };
  // What the commit itself will refuse is not worth packing.
  const bool is_taken = store_.meta().read().maybe_snapshot(space_, name).has_value();
  if (seen && !is_taken && can_be_packed(store_, *seen, options)) {
    try {
      stage(store_, *seen, layer);
    } catch (const Error& error) {
      layer.reset();
      log_failure(error);
    }
  }
  inner().commit(name, key, options);
  if (!layer) return;
  try {
    if (replace_directory(store_, *seen, *layer)) on_removed_();
  } catch (const Error& error) {
    log_failure(error);
  }
}

}  // namespace veneer
