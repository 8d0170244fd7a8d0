// A stream that ends early when nobody wants it any more.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "base/error.h"
#include "stream/stream.h"

namespace veneer {

// Throws unavailable as soon as `is_stopped` says so.
class StoppableSource final : public Source {
 public:
  StoppableSource(std::unique_ptr<Source> from, std::function<bool()> is_stopped)
      : from_(std::move(from)), is_stopped_(std::move(is_stopped)) {}
  Bytes next(Room room) override {
    if (is_stopped_()) fail(Code::unavailable, "cancelled");
    return from_->next(room);
  }

 private:
  std::unique_ptr<Source> from_;
  std::function<bool()> is_stopped_;
};

}  // namespace veneer
