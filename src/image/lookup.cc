#include "image/lookup.h"

#include <algorithm>
#include <numeric>

#include "base/digest.h"
#include "base/error.h"

namespace veneer {

namespace {

constexpr size_t kShortestPrefix = 4;
constexpr size_t kMostNear = 3;
constexpr size_t kLongestCompared = 256;
constexpr size_t kFar = SIZE_MAX;
// What is within the other counts as less near than a typing error, and more than two.
constexpr size_t kWithin = 1;

// How many letters must be put in, taken out or changed to make one of the other; letters that
// have changed places with their neighbours count once.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> two_above(b.size() + 1);
  std::vector<size_t> above(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  std::iota(above.begin(), above.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({changed, above[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], two_above[j - 2] + 1);
    }
    std::swap(two_above, above);
    std::swap(above, row);
  }
  return above.back();
}

size_t distance(std::string_view wanted, std::string_view name) {
  const size_t shorter = std::min(wanted.size(), name.size());
  if (std::max(wanted.size(), name.size()) > kLongestCompared) return kFar;
  const size_t edits = edit_distance(wanted, name);
  if (edits <= std::min<size_t>(2, shorter / 3)) return edits;
  const bool is_within = name.find(wanted) != name.npos || wanted.find(name) != wanted.npos;
  return is_within && shorter >= 3 ? kWithin : kFar;
}

// Of a name and what is left of it without its tag, and then without its path.
size_t distance_to_parts(std::string_view wanted, std::string_view name) {
  size_t least = distance(wanted, name);
  const size_t slash = name.rfind('/');
  const size_t colon = name.find(':', slash == name.npos ? 0 : slash);
  name = name.substr(0, colon);
  least = std::min(least, distance(wanted, name));
  if (slash != name.npos) least = std::min(least, distance(wanted, name.substr(slash + 1)));
  return least;
}

}  // namespace

bool is_id_prefix(std::string_view text) {
  return text.size() >= kShortestPrefix && text.size() <= 2 * Digest::kBytes &&
         text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::optional<std::string> maybe_id(std::string_view prefix, const std::vector<std::string>& ids) {
  std::optional<std::string> found;
  for (const std::string& id : ids) {
    if (!id.starts_with(prefix)) continue;
    if (found) fail(Code::invalid_argument, "several ids begin with {}", prefix);
    found = id;
  }
  return found;
}

std::string did_you_mean(std::string_view wanted, const std::vector<std::string>& names) {
  std::vector<std::pair<size_t, std::string>> near;
  for (const std::string& name : names)
    if (const size_t far = distance_to_parts(wanted, name); far != kFar)
      near.emplace_back(far, name);
  std::ranges::sort(near);
  const auto repeated = std::ranges::unique(near);
  near.erase(repeated.begin(), repeated.end());
  if (near.empty()) return "";
  near.resize(std::min(near.size(), kMostNear));
  std::string text = "; did you mean ";
  for (size_t i = 0; i < near.size(); ++i) {
    if (i > 0) text += i + 1 == near.size() ? " or " : ", ";
    text += near[i].second;
  }
  return text + "?";
}

}  // namespace veneer
