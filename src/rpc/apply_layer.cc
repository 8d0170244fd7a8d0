#include "rpc/apply_layer.h"

#include <algorithm>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "rpc/extraction.h"
#include "rpc/media_types.h"
#include "rpc/stoppable_source.h"
#include "store/one_layer.h"
#include "store/own_mounts.h"
#include "store/recover.h"
#include "stream/verify.h"

namespace veneer {

namespace {

std::unique_ptr<Source> open_stoppable(const Digest& digest, Blobs& blobs) {
  return std::make_unique<StoppableSource>(blobs.open(digest),
                                           [&blobs] { return blobs.is_cancelled(); });
}

bool is_untouched(const Store& store, int64_t snapshot) {
  const auto directory =
      maybe_open_dir_at(store.layout().snapshots(), Layout::snapshot_name(snapshot));
  const auto upper = directory ? maybe_open_dir_at(directory->get(), kUpperName) : std::nullopt;
  return upper && !DirReader(upper->get()).next();
}

SnapshotRecord find_target(Store& store, const ApplyJob& job) {
  std::optional<SnapshotRecord> target;
  if (job.mounts.size() == 1) {
    Meta::Transaction transaction = store.meta().read();
    target = find_mounted(store, transaction, job.space, job.mounts.front());
  }
  if (!target) fail(Code::unsupported, "these mounts are of no snapshot of this store");
  if (target->info.kind != Kind::active)
    fail(Code::failed_precondition, "snapshot {} is not active but {}", target->info.name,
         to_string(target->info.kind));
  // Its client may go on writing, or apply another: a container that is restored. Through its
  // mounts another differ adds to what is there.
  if (!is_extraction(target->info.name))
    fail(Code::unsupported, "snapshot {} is not for a layer alone", target->info.name);
  if (!target->variant && !is_untouched(store, target->id))
    fail(Code::unsupported, "something was written to snapshot {}: a layer goes into a new one",
         target->info.name);
  return std::move(*target);
}

std::optional<Digest> maybe_digest(const std::string& text) {
  try {
    return Digest::parse(text);
  } catch (const Error&) {
    return std::nullopt;  // a hint, from outside
  }
}

template <typename Map>
std::optional<std::string> maybe_value(const Map& map, std::string_view key) {
  const auto found = map.find(std::string(key));
  return found == map.end() ? std::nullopt : std::optional(found->second);
}

// The DiffID of the blob, as somebody says. The first to say anything is the nearest to what
// containerd will compare the answer with; then comes the store, which has read it before.
std::optional<Digest> said_diff_id(Store& store, const SnapshotRecord& target,
                                   const LayerDescriptor& layer, Blobs& blobs) {
  std::optional<std::string> said = maybe_value(target.info.labels, kDiffIdLabel);
  if (said) return maybe_digest(*said);
  if (auto read = store.meta().read().maybe_diff_id(layer.digest)) return read;
  said = blobs.maybe_label(layer.digest, kUncompressedLabel);
  if (!said) said = maybe_value(layer.annotations, kUncompressedLabel);
  if (said) return maybe_digest(*said);
  if (maybe_layer_compression(layer.media_type) == Compression::none) return layer.digest;
  return std::nullopt;
}

// A wrong hint must not fail what can be read: only what the store has is looked for.
std::optional<Digest> known_diff_id(Store& store, const SnapshotRecord& target,
                                    const LayerDescriptor& layer, Blobs& blobs) {
  const std::optional<Digest> said = said_diff_id(store, target, layer, blobs);
  if (!said || !store.meta().read().maybe_layer(*said)) return std::nullopt;
  return said;
}

AppliedLayer describe(Meta::Transaction& transaction, const Digest& diff_id, bool was_read) {
  const auto layer = transaction.maybe_layer(diff_id);
  if (!layer) fail(Code::corrupt, "layer {} is not there", diff_id.str());
  return {.diff_id = diff_id, .size_bytes = layer->tar_bytes, .was_read = was_read};
}

bool is_alone(const SnapshotInfo& target) {
  return is_extracted_alone(target.name, target.parent, target.labels);
}

[[noreturn]] void fail_filled(const SnapshotRecord& target) {
  fail(Code::failed_precondition, "snapshot {} has its content already: {}", target.info.name,
       target.variant->diff_id.str());
}

// Nothing, with nothing done, if the layer is to be staged again. `read` is the blob, if all of it
// was.
std::optional<AppliedLayer> publish(Store& store, const SnapshotRecord& seen, OneLayer& layer,
                                    const std::optional<Digest>& read) {
  const bool was_read = !layer.layer().existed;
  Meta::Transaction transaction = store.meta().write();
  auto target = maybe_snapshot_at(transaction, seen.space, seen.id);
  if (!target || target->info.kind != Kind::active)
    fail(Code::failed_precondition, "snapshot {} was removed or committed meanwhile",
         seen.info.name);
  if (target->variant) {
    if (target->variant->diff_id != layer.layer().diff_id) fail_filled(*target);
    return describe(transaction, target->variant->diff_id, was_read);  // by another call
  }
  OrphanGuard orphans(store.open_mark());
  target->variant = layer.publish(transaction);
  if (!target->variant) {
    orphans.done();
    return std::nullopt;
  }
  target->info.updated = now();
  transaction.update_snapshot(*target);
  const AppliedLayer applied = describe(transaction, target->variant->diff_id, was_read);
  if (read && read != applied.diff_id) transaction.add_layer_blob(applied.diff_id, *read);
  transaction.commit();
  orphans.done();
  return applied;
}

Digest read_diff_id(const LayerDescriptor& layer, Blobs& blobs) {
  const std::unique_ptr<Source> stored = open_stoppable(layer.digest, blobs);
  VerifyingSource verified(*stored, layer.digest, "blob", layer.size_bytes);
  DecompressingSource plain(verified);
  LimitedSource limited(plain, limits::kLayerBytes, "layer");
  HashingSource hashed(limited);
  drain(hashed);
  return hashed.digest();
}

// The DiffIDs of the layers below, lowest first. Nothing if there is what is no layer.
std::optional<std::vector<Digest>> maybe_diff_ids_below(Store& store,
                                                        const SnapshotRecord& target) {
  std::vector<Digest> diff_ids;
  if (!target.parent) return diff_ids;
  for (const SnapshotRecord& below : store.meta().read().chain(*target.parent)) {
    if (!below.variant) return std::nullopt;
    diff_ids.push_back(below.variant->diff_id);
  }
  std::ranges::reverse(diff_ids);
  return diff_ids;
}

void begin_ahead(Store& store, const SnapshotRecord& target, const Digest& blob, const Blobs& blobs,
                 ReadAhead::Turn& turn) {
  const auto below = maybe_diff_ids_below(store, target);
  if (!below) return;
  if (auto find = blobs.maybe_finder(blob, *below)) turn.begin(std::move(find));
}

// Reads the layer, unless that was done ahead or the store has it.
std::unique_ptr<OneLayer> stage(Store& store, const SnapshotRecord& target, LayerBlob blob,
                                const Blobs& blobs, std::optional<ReadAhead::Turn>& turn) {
  if (turn && !blob.diff_id) {
    if (auto layer = turn->maybe_take([&blobs] { return blobs.is_cancelled(); })) {
      layer->put_over(target.parent, blob.is_alone);
      return layer;
    }
    begin_ahead(store, target, *blob.blob_digest, blobs, *turn);
  }
  return std::make_unique<OneLayer>(store, target.parent, std::move(blob));
}

AppliedLayer fill(Store& store, const SnapshotRecord& target, const ApplyJob& job, Blobs& blobs,
                  ReadAhead* ahead) {
  const std::optional<Digest> known = known_diff_id(store, target, job.layer, blobs);
  if (target.variant) {  // the same call again, whose answer was lost
    if (target.variant->diff_id != (known ? *known : read_diff_id(job.layer, blobs)))
      fail_filled(target);
    Meta::Transaction transaction = store.meta().read();
    return describe(transaction, target.variant->diff_id, !known);
  }
  LayerBlob blob;
  blob.diff_id = known;
  blob.blob_digest = job.layer.digest;
  blob.blob_size = job.layer.size_bytes;
  blob.open = [&] { return open_stoppable(job.layer.digest, blobs); };
  blob.is_alone = is_alone(target.info);
  const auto read = known ? std::nullopt : blob.blob_digest;
  std::optional<ReadAhead::Turn> turn;
  if (ahead != nullptr) turn.emplace(*ahead, job.layer.digest);
  const auto layer = stage(store, target, std::move(blob), blobs, turn);
  for (;;) {
    if (blobs.is_cancelled()) fail(Code::unavailable, "cancelled");
    if (auto applied = publish(store, target, *layer, read)) {
      store.discard_snapshot(target.id);  // an empty directory, which no mount names any more
      applied->times = layer->layer().times;
      return *applied;
    }
    layer->stage();
  }
}

}  // namespace

AppliedLayer apply_to_snapshot(Store& store, const ApplyJob& job, Blobs& blobs, ReadAhead* ahead) {
  if (!maybe_layer_compression(job.layer.media_type))
    fail(Code::unsupported, "{} is no layer that this differ can read", job.layer.media_type);
  const SnapshotRecord target = find_target(store, job);
  try {
    return fill(store, target, job, blobs, ahead);
  } catch (const Error& error) {
    // containerd would take it for our leave to ask another differ, or nobody.
    if (error.code() != Code::unsupported) throw;
    fail(Code::failed_precondition, "{}", error.message());
  }
}

void attach_known_layer(Store& store, std::string_view space, std::string_view key) {
  if (!is_extraction(key)) return;
  const auto target = store.meta().read().maybe_snapshot(space, key);
  if (!target || target->info.kind != Kind::active || target->variant) return;
  const auto label = maybe_value(target->info.labels, kDiffIdLabel);
  const auto diff_id = label ? maybe_digest(*label) : std::nullopt;
  if (!diff_id || !store.meta().read().maybe_layer(*diff_id)) return;
  LayerBlob blob;
  blob.diff_id = *diff_id;
  blob.open = []() -> std::unique_ptr<Source> { fail(Code::not_found, "it has gone"); };
  blob.is_alone = is_alone(target->info);
  try {
    OneLayer layer(store, target->parent, std::move(blob));
    if (!publish(store, *target, layer, std::nullopt)) return;
  } catch (const Error&) {
    return;  // it is applied like any other, and says then what is wrong
  }
  store.discard_snapshot(target->id);
}

}  // namespace veneer
