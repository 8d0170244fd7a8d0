// The configs of images, kept as blobs of the store.
#pragma once

#include <string>

#include "store/store.h"

namespace veneer {

// Throws corrupt if it is not there, or not what its digest says; not_found if the image went since
// the caller looked.
std::string read_config(Store& store, const Digest& digest);

// A config on its way into the store.
class StagedConfig {
 public:
  // Writes and syncs it, where nobody sees it.
  StagedConfig(const Store& store, std::string text);
  const Digest& digest() const { return digest_; }
  const std::string& text() const { return text_; }
  // Moves it into place, as a part of `transaction`. Nothing happens if it is there.
  void publish(Meta::Transaction& transaction);

 private:
  const Store& store_;
  std::string text_;
  Digest digest_;
  StagingDir staging_;
};

// Discards the files of configs whose row is gone, after the transaction in which it went.
void discard_config(Store& store, const Digest& digest);

}  // namespace veneer
