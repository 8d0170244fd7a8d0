#include "image/config_blob.h"

#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "store/recover.h"

namespace veneer {

namespace {

constexpr PathView kStagedName = "config";

}  // namespace

std::string read_config(Store& store, const Digest& digest) {
  const auto text =
      maybe_read_file_at(store.layout().blobs(), Layout::digest_name(digest), limits::kJsonBytes);
  if (!text && !store.meta().read().maybe_image(digest))
    fail(Code::not_found, "image {} was removed", digest.hex());
  if (!text) fail(Code::corrupt, "config {} is not there", digest.str());
  if (Sha256::of(*text) != digest)
    fail(Code::corrupt, "config {} has changed on disk", digest.str());
  return *text;
}

StagedConfig::StagedConfig(const Store& store, std::string text)
    : store_(store), text_(std::move(text)), digest_(Sha256::of(text_)), staging_(store.layout()) {
  write_file_at(staging_.fd(), kStagedName, text_, 0400);
  if (!store.options().is_volatile) sync_fd(open_at(staging_.fd(), kStagedName, O_RDONLY).get());
}

void StagedConfig::publish(Meta::Transaction& transaction) {
  if (transaction.maybe_blob(digest_)) return;
  const Layout& layout = store_.layout();
  const RelPath name = Layout::digest_name(digest_);
  put_in_place(staging_.fd(), kStagedName, layout.blobs(), name);
  if (!store_.options().is_volatile) sync_fd(layout.blobs());
  transaction.add_blob(digest_, text_.size());
}

void discard_config(Store& store, const Digest& digest) {
  // Locked, so that nobody publishes the same config again meanwhile.
  Meta::Transaction transaction = store.meta().write();
  if (transaction.maybe_blob(digest)) return;
  const Layout& layout = store.layout();
  const RelPath name = Layout::digest_name(digest);
  discard_if_there(layout, layout.blobs(), name);
}

}  // namespace veneer
