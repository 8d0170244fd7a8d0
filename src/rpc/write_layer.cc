#include "rpc/write_layer.h"

#include <utility>

#include "base/error.h"
#include "rpc/media_types.h"
#include "rpc/remap.h"
#include "store/own_mounts.h"
#include "stream/compressing_sink.h"

namespace veneer {

namespace {

SnapshotRecord require_mounted(Store& store, Meta::Transaction& transaction, std::string_view space,
                               const std::vector<Mount>& mounts, std::string_view side) {
  std::optional<SnapshotRecord> snapshot;
  if (mounts.size() == 1) snapshot = find_mounted(store, transaction, space, mounts.front());
  if (!snapshot) fail(Code::unsupported, "the {} mounts are of no snapshot of this store", side);
  return std::move(*snapshot);
}

IdMap map_of(const Labels& labels, std::string_view key) {
  const auto found = labels.find(std::string(key));
  return found == labels.end() ? IdMap() : IdMap::parse(found->second);
}

}  // namespace

WriteJob plan_write(Store& store, WriteRequest request) {
  WriteJob job;
  job.media_type = request.media_type.empty() ? kLayerTarGzip : request.media_type;
  const auto compression = maybe_layer_compression(job.media_type);
  if (!compression)
    fail(Code::unsupported, "{} is no layer that this differ can write", job.media_type);
  job.compression = *compression;
  job.labels = std::move(request.labels);
  Meta::Transaction transaction = store.meta().read();
  const SnapshotRecord right =
      require_mounted(store, transaction, request.space, request.right, "right");
  const SnapshotRecord left =
      require_mounted(store, transaction, request.space, request.left, "left");
  job.snapshot = right.id;
  // A view of nothing is nothing.
  if (left.info.kind != Kind::view) job.before = left.id;
  if (right.info.kind == Kind::active && !right.variant)
    job.options.id_maps = {.uids = map_of(right.info.labels, kUidMapping),
                           .gids = map_of(right.info.labels, kGidMapping)};
  return job;
}

Digest write_compressed(Store& store, const WriteJob& job, Sink& to) {
  CompressingSink compressed(job.compression, to);
  HashingSink plain(compressed);
  store.write_changes(job.snapshot, job.before, plain, job.options);
  compressed.finish();
  return plain.digest();
}

}  // namespace veneer
