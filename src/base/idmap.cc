#include "base/idmap.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"

namespace veneer {

namespace {

bool overlap(uint32_t a, uint32_t b, const IdRange& x, const IdRange& y) {
  return a < uint64_t{b} + y.size && b < uint64_t{a} + x.size;
}

uint32_t parse_number(std::string_view& text, std::string_view whole) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc())
    fail(Code::invalid_argument, "id map \"{}\": want container:host:size[,...]", whole);
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

void expect(char wanted, std::string_view& text, std::string_view whole) {
  if (text.empty() || text.front() != wanted)
    fail(Code::invalid_argument, "id map \"{}\": want container:host:size[,...]", whole);
  text.remove_prefix(1);
}

}  // namespace

IdMap::IdMap(std::vector<IdRange> ranges) : ranges_(std::move(ranges)) {
  constexpr uint64_t kIds = uint64_t{1} << 32;
  for (size_t i = 0; i < ranges_.size(); ++i) {
    const IdRange& x = ranges_[i];
    if (x.size == 0 || x.container + uint64_t{x.size} > kIds || x.host + uint64_t{x.size} > kIds)
      fail(Code::invalid_argument, "id map range {}:{}:{} is empty or leaves 32 bits", x.container,
           x.host, x.size);
    for (size_t j = 0; j < i; ++j) {
      const IdRange& y = ranges_[j];
      if (overlap(x.container, y.container, x, y) || overlap(x.host, y.host, x, y))
        fail(Code::invalid_argument, "id map ranges {}:{}:{} and {}:{}:{} overlap", x.container,
             x.host, x.size, y.container, y.host, y.size);
    }
  }
}

IdMap IdMap::parse(std::string_view text) {
  const std::string_view whole = text;
  std::vector<IdRange> ranges;
  for (;;) {
    IdRange range;
    range.container = parse_number(text, whole);
    expect(':', text, whole);
    range.host = parse_number(text, whole);
    expect(':', text, whole);
    range.size = parse_number(text, whole);
    ranges.push_back(range);
    if (text.empty()) return IdMap(std::move(ranges));
    expect(',', text, whole);
  }
}

uint32_t IdMap::to_host(uint32_t id) const {
  if (ranges_.empty()) return id;
  for (const IdRange& range : ranges_)
    if (id >= range.container && id - range.container < range.size)
      return range.host + (id - range.container);
  fail(Code::invalid_argument,
       "id {} is outside the id map: give the user more ids in /etc/subuid and /etc/subgid", id);
}

uint32_t IdMap::to_container(uint32_t id) const {
  if (ranges_.empty()) return id;
  for (const IdRange& range : ranges_)
    if (id >= range.host && id - range.host < range.size)
      return range.container + (id - range.host);
  fail(Code::invalid_argument, "host id {} is outside the id map", id);
}

IdMap IdMap::inside() const {
  IdMap map = *this;
  for (IdRange& range : map.ranges_) range.host = range.container;
  return map;
}

IdMap IdMap::with_host_root() const {
  const auto has_root = [](const IdRange& range) { return range.host == 0; };
  if (is_identity() || std::ranges::any_of(ranges_, has_root)) return *this;
  uint32_t id = 0xfffffffe;  // (uid_t)-1 is no id
  const auto holds = [&](const IdRange& range) {
    return id >= range.container && id - range.container < range.size;
  };
  for (auto range = std::ranges::find_if(ranges_, holds); range != ranges_.end();
       range = std::ranges::find_if(ranges_, holds))
    id = range->container - 1;  // of a range at 0 that is full, host 0 would be a part
  IdMap map = *this;
  map.ranges_.push_back({.container = id, .host = 0, .size = 1});
  return map;
}

}  // namespace veneer
