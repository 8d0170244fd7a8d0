// The fast check of stored bytes: it finds damage, not intent, at the speed of memory.
#pragma once

#include <cstdint>

#include "stream/stream.h"

namespace veneer {

// CRC-64 as the .xz format has it (ECMA-182, reflected, inverted before and after).
class Crc64 {
 public:
  void update(Bytes bytes);
  // Of all bytes so far; 0 of none.
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0;
};

// Passes bytes on, and sums them.
class Crc64Sink : public Sink {
 public:
  explicit Crc64Sink(Sink& to) : to_(to) {}
  void write(Bytes bytes) override;
  uint64_t value() const { return crc_.value(); }

 private:
  Sink& to_;
  Crc64 crc_;
};

// The same on the way in.
class Crc64Source : public Source {
 public:
  explicit Crc64Source(Source& from) : from_(from) {}
  Bytes next(Room room) override;
  uint64_t value() const { return crc_.value(); }

 private:
  Source& from_;
  Crc64 crc_;
};

}  // namespace veneer
