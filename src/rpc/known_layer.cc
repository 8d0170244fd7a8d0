#include "rpc/known_layer.h"

#include <algorithm>
#include <vector>

#include "base/at.h"
#include "base/error.h"
#include "rpc/extraction.h"
#include "store/one_layer.h"
#include "store/recover.h"

namespace veneer {

namespace {

// Labels are anybody's text.
std::optional<Digest> maybe_digest(const Labels& labels, std::string_view key) {
  const auto label = labels.find(std::string(key));
  if (label == labels.end()) return std::nullopt;
  try {
    return Digest::parse(label->second);
  } catch (const Error&) {
    return std::nullopt;
  }
}

struct Wanted {
  Digest chain;
  Digest diff_id;
  std::optional<int64_t> parent;
};

std::optional<Wanted> find_layer(Meta::Transaction& transaction, std::string_view space,
                                 std::string_view parent, const Labels& labels) {
  const std::optional<Digest> chain = maybe_digest(labels, kSnapshotRef);
  if (!chain) return std::nullopt;
  if (parent.empty()) {
    if (!transaction.maybe_layer(*chain)) return std::nullopt;
    return Wanted{.chain = *chain, .diff_id = *chain, .parent = {}};
  }
  const auto below = transaction.maybe_snapshot(space, parent);
  if (!below || below->info.kind != Kind::committed) return std::nullopt;
  const std::optional<Digest> chain_below = maybe_digest(below->info.labels, kSnapshotRef);
  if (!chain_below) return std::nullopt;
  for (const LayerRecord& layer : transaction.list_layers())
    if (chain_id(chain_below, layer.diff_id) == *chain)
      return Wanted{.chain = *chain, .diff_id = layer.diff_id, .parent = below->id};
  return std::nullopt;
}

// Nothing if the layer, or the parent, has gone meanwhile.
std::optional<std::string> add(Store& store, std::string_view space, std::string_view parent,
                               const Wanted& wanted) {
  LayerBlob blob;
  blob.diff_id = wanted.diff_id;
  blob.open = []() -> std::unique_ptr<Source> { fail(Code::not_found, "it has gone"); };
  OneLayer layer(store, wanted.parent, std::move(blob));
  Meta::Transaction transaction = store.meta().write();
  if (wanted.parent) {
    const auto below = transaction.maybe_snapshot(space, parent);
    if (!below || below->id != *wanted.parent) return std::nullopt;
  }
  OrphanGuard orphans(store.open_mark());
  const auto variant = layer.publish(transaction);
  if (!variant) return std::nullopt;
  SnapshotRecord snapshot;
  snapshot.space = space;
  snapshot.info.name = "known-layer-" + random_name();
  snapshot.info.parent = parent;
  snapshot.info.kind = Kind::committed;
  snapshot.info.created = now();
  snapshot.info.updated = snapshot.info.created;
  snapshot.info.labels = {{std::string(kSnapshotRef), wanted.chain.str()}};
  snapshot.parent = wanted.parent;
  snapshot.variant = variant;
  snapshot.usage = variant->usage;
  transaction.add_snapshot(snapshot);
  transaction.commit();
  orphans.done();
  return snapshot.info.name;
}

}  // namespace

std::optional<std::string> maybe_add_known_layer(Store& store, std::string_view space,
                                                 std::string_view parent, const Labels& labels) {
  const auto wanted = [&] {
    Meta::Transaction transaction = store.meta().read();
    return find_layer(transaction, space, parent, labels);
  }();
  if (!wanted) return std::nullopt;
  try {
    return add(store, space, parent, *wanted);
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
    return std::nullopt;
  }
}

}  // namespace veneer
