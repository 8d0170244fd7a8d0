#include "bin/layer_mounts.h"

#include <sys/file.h>

#include <algorithm>
#include <string_view>

#include "base/at.h"
#include "base/error.h"
#include "mount/mount.h"

namespace veneer {
namespace {

// proc_pid_mountinfo(5): bytes that separate fields are written as a backslash and three digits.
std::string unescape(std::string_view text) {
  std::string plain;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\\' && at + 3 < text.size()) {
      plain += static_cast<char>((text[at + 1] - '0') * 64 + (text[at + 2] - '0') * 8 +
                                 (text[at + 3] - '0'));
      at += 3;
    } else {
      plain += text[at];
    }
  }
  return plain;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

struct MountLine {
  std::string target;
  std::vector<std::string> lowers;  // of an overlay that was mounted with lowerdir+ (Linux 6.8)
};

// The mounts of this namespace, those on top of others after them.
std::vector<MountLine> read_mounts() {
  constexpr std::string_view kLower = "lowerdir+=";
  constexpr uint64_t kMostBytes = 64 << 20;
  constexpr size_t kTarget = 4;
  const std::string text = read_file_at(open_root("/proc/self").get(), "mountinfo", kMostBytes);
  std::vector<MountLine> mounts;
  for (const std::string_view line : split(text, '\n')) {
    const std::vector<std::string_view> fields = split(line, ' ');
    if (fields.size() <= kTarget) continue;
    MountLine mount{.target = unescape(fields[kTarget]), .lowers = {}};
    for (const std::string_view option : split(fields.back(), ','))
      if (option.starts_with(kLower))
        mount.lowers.push_back(unescape(option.substr(kLower.size())));
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

void flock_layer(int directory, int how) {
  (void)check(flock(directory, how), "flock {}", path_of(directory));
}

}  // namespace

void lock_layer(int directory) {
  flock_layer(directory, LOCK_SH);
}

void unlock_layer(int directory) {
  flock_layer(directory, LOCK_UN);
}

std::vector<std::string> overlay_lowers(const std::string& target) {
  std::vector<std::string> lowers;
  for (MountLine& mount : read_mounts())
    if (mount.target == target) lowers = std::move(mount.lowers);
  return lowers;
}

void let_go(const std::vector<std::string>& lowers) {
  constexpr std::string_view kSuffix = "/mnt";
  for (const std::string& lower : lowers) {
    if (!lower.ends_with(kSuffix)) continue;
    const UniqueFd directory = open_root(lower.substr(0, lower.size() - kSuffix.size()));
    flock_layer(directory.get(), LOCK_EX);
    const std::vector<MountLine> mounts = read_mounts();
    const bool is_used = std::ranges::any_of(mounts, [&](const MountLine& mount) {
      return std::ranges::find(mount.lowers, lower) != mount.lowers.end();
    });
    if (!is_used) (void)unmount_at(directory.get(), "mnt", Unmount::detach);  // it may not be there
  }
}

}  // namespace veneer
