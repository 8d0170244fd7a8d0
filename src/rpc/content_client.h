// containerd's content store, asked over containerd's socket (api/services/content/v1).
//
// What is asked belongs to a call that containerd makes of us: it goes on in that call's namespace
// and under its lease, and ends when that call is cancelled.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "store/snapshotter.h"
#include "stream/stream.h"

namespace veneer {

// The namespace that a call of containerd's is made in; "" for none.
std::string namespace_of(const grpc::ServerContext& call);

class ContentClient {
 public:
  // Connects with the first call, and again whenever containerd was away. The address is
  // "unix://<path>" or the path alone; else invalid_argument.
  explicit ContentClient(const std::string& address);
  ~ContentClient();

  // The label of a blob; nothing if it has none, or is not there.
  std::optional<std::string> maybe_label(const grpc::ServerContext& call, const Digest& blob,
                                         std::string_view key) const;
  // The blobs of a namespace whose label `key` is `value`, for work that goes on after the call
  // that it began with; it takes a few seconds at most.
  std::vector<Digest> labelled(const std::string& space, std::string_view key,
                               std::string_view value) const;
  // The bytes of a blob. The first next() says not_found if there is none.
  std::unique_ptr<Source> open(const grpc::ServerContext& call, const Digest& blob) const;

  // A blob on its way into the store.
  class Upload : public Sink {
   public:
    // Sends what was written, and has it checked and kept with these labels. A blob that is there
    // already is left as it is, and gets the labels too. Nothing is kept without a commit().
    struct Blob {
      Digest digest;
      uint64_t size_bytes = 0;
    };
    virtual Blob commit(const Labels& labels) = 0;
  };
  // Under `ref`, whatever that has already; under one of our own for "". unavailable if somebody is
  // writing under it. Where the call has no lease, the blob gets one of its own for a time:
  // containerd does not pass on its caller's, and would collect what nothing refers to.
  std::unique_ptr<Upload> upload(const grpc::ServerContext& call, const std::string& ref) const;

 private:
  struct Stubs;
  std::unique_ptr<Stubs> stubs_;
};

}  // namespace veneer
