#include "stream/checksum.h"

#include <isa-l/crc64.h>

namespace veneer {

void Crc64::update(Bytes bytes) {
  value_ =
      ::crc64_ecma_refl(value_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

void Crc64Sink::write(Bytes bytes) {
  to_.write(bytes);
  crc_.update(bytes);
}

Bytes Crc64Source::next(Room room) {
  const Bytes bytes = from_.next(room);
  crc_.update(bytes);
  return bytes;
}

}  // namespace veneer
