#include "store/snapshotter.h"

namespace veneer {

std::string_view to_string(Kind kind) {
  switch (kind) {
    case Kind::view:
      return "view";
    case Kind::active:
      return "active";
    case Kind::committed:
      return "committed";
  }
  return "unknown";
}

}  // namespace veneer
