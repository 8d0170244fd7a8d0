#include "image/platform.h"

#include <sys/utsname.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace veneer {

namespace {

struct Alias {
  std::string_view machine;
  std::string_view architecture;
  std::string_view variant;
};

// uname(2)'s machine, and what people write instead.
constexpr Alias kAliases[] = {
    {"x86_64", "amd64", ""}, {"x86-64", "amd64", ""},   {"aarch64", "arm64", ""},
    {"i386", "386", ""},     {"i486", "386", ""},       {"i586", "386", ""},
    {"i686", "386", ""},     {"armv5tel", "arm", "v5"}, {"armv5tejl", "arm", "v5"},
    {"armel", "arm", "v6"},  {"armv6l", "arm", "v6"},   {"armhf", "arm", "v7"},
    {"armv7l", "arm", "v7"}, {"armv8l", "arm", "v8"},   {"loongarch64", "loong64", ""},
};

void use_go_names(Platform& platform) {
  const auto* alias = std::ranges::find(kAliases, platform.architecture, &Alias::machine);
  if (alias == std::end(kAliases)) return;
  platform.architecture = alias->architecture;
  if (platform.variant.empty()) platform.variant = alias->variant;
}

// "v8.2" is 8 * 16 + 2. Nothing for architectures and variants that are no levels.
std::optional<unsigned> level(const Platform& platform) {
  const std::string& architecture = platform.architecture;
  std::string_view text = platform.variant;
  if (architecture != "arm" && architecture != "arm64" && architecture != "amd64") return {};
  if (text.empty()) text = architecture == "arm" ? "7" : architecture == "arm64" ? "8" : "1";
  if (text.starts_with('v')) text.remove_prefix(1);
  unsigned numbers[2] = {};
  for (unsigned& number : numbers) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number > 15) return {};
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (text.empty()) return numbers[0] * 16 + numbers[1];
    if (!text.starts_with('.')) return {};
    text.remove_prefix(1);
  }
  return {};
}

}  // namespace

Platform Platform::parse(std::string_view text) {
  Platform platform;
  bool valid = false;
  if (const size_t first = text.find('/'); first != std::string_view::npos) {
    const std::string_view rest = text.substr(first + 1);
    const size_t second = std::min(rest.find('/'), rest.size());
    platform.os = text.substr(0, first);
    platform.architecture = rest.substr(0, second);
    if (second < rest.size()) platform.variant = rest.substr(second + 1);
    valid = !platform.os.empty() && !platform.architecture.empty() && !rest.ends_with('/') &&
            platform.variant.find('/') == std::string::npos;
  }
  if (!valid) fail(Code::invalid_argument, "platform {:?} is not os/arch[/variant]", text);
  use_go_names(platform);
  return platform;
}

Platform Platform::host() {
  utsname name;
  check(::uname(&name), "uname");
  Platform platform{.os = "linux", .architecture = name.machine, .variant = {}};
  use_go_names(platform);
  return platform;
}

std::string Platform::str() const {
  return os + "/" + architecture + (variant.empty() ? "" : "/" + variant);
}

unsigned suitability(const std::optional<Platform>& offered, const Platform& wanted) {
  if (!offered) return 1;
  if (offered->os != wanted.os || offered->architecture != wanted.architecture) return 0;
  const std::optional<unsigned> offers = level(*offered);
  const std::optional<unsigned> wants = level(wanted);
  if (offers && wants) return *offers <= *wants ? 2 + *offers : 0;
  return offered->variant == wanted.variant ? 2 : 0;
}

}  // namespace veneer
