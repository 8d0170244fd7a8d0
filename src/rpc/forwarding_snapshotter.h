// A snapshotter over another one, for those that change one or two of its calls.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "store/snapshotter.h"

namespace veneer {

// Borrows the other one.
class ForwardingSnapshotter : public Snapshotter {
 public:
  explicit ForwardingSnapshotter(Snapshotter& inner) : inner_(inner) {}

  SnapshotInfo stat(std::string_view key) override { return inner_.stat(key); }
  SnapshotInfo update(const SnapshotInfo& info, const std::vector<std::string>& fields) override {
    return inner_.update(info, fields);
  }
  Usage usage(std::string_view key) override { return inner_.usage(key); }
  std::vector<Mount> mounts(std::string_view key) override { return inner_.mounts(key); }
  std::vector<Mount> prepare(std::string_view key, std::string_view parent,
                             const Labels& labels) override {
    return inner_.prepare(key, parent, labels);
  }
  std::vector<Mount> view(std::string_view key, std::string_view parent,
                          const Labels& labels) override {
    return inner_.view(key, parent, labels);
  }
  void commit(std::string_view name, std::string_view key, const CommitOptions& options) override {
    inner_.commit(name, key, options);
  }
  void remove(std::string_view key) override { inner_.remove(key); }
  void walk(const std::vector<std::string>& filters,
            const std::function<void(const SnapshotInfo&)>& visit) override {
    inner_.walk(filters, visit);
  }
  void cleanup() override { inner_.cleanup(); }

 protected:
  Snapshotter& inner() { return inner_; }

 private:
  Snapshotter& inner_;
};

}  // namespace veneer
