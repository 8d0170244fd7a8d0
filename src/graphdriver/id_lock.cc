#include "graphdriver/id_lock.h"

#include <charconv>

#include "base/at.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/lock.h"

namespace veneer {

RelPath parse_id(std::string_view id) {
  RelPath name = RelPath::parse_name(id, "id");
  if (id.size() > limits::kIdBytes)
    fail(Code::invalid_argument, "an id of {} bytes; {} are allowed", id.size(), limits::kIdBytes);
  return name;
}

IdLocks::IdLocks(const std::string& run, std::string_view driver, const std::string& home)
    : dir_(open_or_make_root(
               fmt::format("{}/{}/{}", run, driver, Sha256::of(home).hex().substr(0, 16)), 0700)
               .fd) {}

IdLock IdLocks::lock(const RelPath& id, IdLock::Mode mode) const {
  for (;;) {
    UniqueFd file = open_at(dir_.get(), id, O_RDWR | O_CREAT, 0600);
    lock_fd(file.get(), mode);
    // Between open and lock its last owner may have removed it: then it guards nothing.
    const auto now = maybe_stat_at(dir_.get(), id);
    if (now && now->st_ino == stat_fd(file.get()).st_ino)
      return IdLock(std::move(file), dir_.get(), id);
  }
}

uint64_t IdLock::count() const {
  std::array<std::byte, 20> buffer;
  const size_t size = read_some_at(file_.get(), buffer, 0);
  const auto* text = reinterpret_cast<const char*>(buffer.data());
  uint64_t count = 0;
  (void)std::from_chars(text, text + size, count);
  return count;
}

void IdLock::set_count(uint64_t count) {
  // Of one length, in one write: a process that is killed leaves the old count or the new one, and
  // a full disk matters only to the first.
  const std::string text = fmt::format("{:<20}", count);
  write_all_at(file_.get(), std::as_bytes(std::span(text)), 0);
}

void IdLock::forget() {
  (void)remove_tree_at(dir_, id_);
}

}  // namespace veneer
