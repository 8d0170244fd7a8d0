#include "image/names.h"

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"

namespace veneer {

namespace {

constexpr std::string_view kDefaultDomain = "docker.io";
constexpr std::string_view kLegacyDomain = "index.docker.io";
constexpr std::string_view kOfficial = "library/";
constexpr std::string_view kDefaultTag = "latest";

// The locale has no say here.
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
bool is_lower_alnum(char c) {
  return is_lower(c) || is_digit(c);
}
bool is_lower_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f');
}
bool is_hex(char c) {
  return is_lower_hex(c) || (c >= 'A' && c <= 'F');
}

// Whether there is something between every two separators and `valid` is true of each such part.
template <typename Valid>
bool all_parts(std::string_view text, char separator, Valid valid) {
  for (;;) {
    const size_t end = std::min(text.find(separator), text.size());
    if (!valid(text.substr(0, end))) return false;
    if (end == text.size()) return true;
    text.remove_prefix(end + 1);
  }
}

bool is_host_part(std::string_view part) {
  return !part.empty() && part.front() != '-' && part.back() != '-' &&
         std::ranges::all_of(part, [](char c) { return is_alnum(c) || c == '-'; });
}

bool is_domain(std::string_view text) {
  const size_t bracket = text.starts_with('[') ? text.find(']') : 0;
  if (bracket == std::string_view::npos) return false;
  const size_t colon = text.find(':', bracket);
  const std::string_view host = text.substr(0, colon);
  if (colon != std::string_view::npos) {
    const std::string_view port = text.substr(colon + 1);
    if (port.empty() || !std::ranges::all_of(port, is_digit)) return false;
  }
  if (bracket == 0) return all_parts(host, '.', is_host_part);
  return host.size() > 2 && host.size() == bracket + 1 &&
         std::ranges::all_of(host.substr(1, bracket - 1),
                             [](char c) { return is_hex(c) || c == ':'; });
}

// Letters and digits with separators between them: ".", "_", "__", or any number of "-".
bool is_path_part(std::string_view part) {
  if (part.empty() || !is_lower_alnum(part.front()) || !is_lower_alnum(part.back())) return false;
  for (size_t at = 0; at < part.size();) {
    if (is_lower_alnum(part[at])) {
      ++at;
      continue;
    }
    const size_t end =
        static_cast<size_t>(std::ranges::find_if(part.substr(at), is_lower_alnum) - part.begin());
    const std::string_view separator = part.substr(at, end - at);
    if (separator != "." && separator != "_" && separator != "__" &&
        separator.find_first_not_of('-') != std::string_view::npos)
      return false;
    at = end;
  }
  return true;
}

bool is_tag(std::string_view tag) {
  const auto is_word = [](char c) { return is_alnum(c) || c == '_'; };
  return !tag.empty() && is_word(tag.front()) &&
         std::ranges::all_of(tag, [&](char c) { return is_word(c) || c == '.' || c == '-'; });
}

bool is_sha256(std::string_view digest) {
  constexpr std::string_view kPrefix = "sha256:";
  return digest.starts_with(kPrefix) && digest.size() == kPrefix.size() + 2 * Digest::kBytes &&
         std::ranges::all_of(digest.substr(kPrefix.size()), is_lower_hex);
}

// Whether what stands before the first slash is a domain rather than a part of the path.
bool looks_like_domain(std::string_view first) {
  return first == "localhost" || first.find_first_of(".:") != std::string_view::npos ||
         std::ranges::any_of(first, is_upper);
}

}  // namespace

bool is_alnum(char c) {
  return is_lower_alnum(c) || is_upper(c);
}

std::string_view ImageName::assign(std::string_view text) {
  if (text.size() == 2 * Digest::kBytes && std::ranges::all_of(text, is_lower_hex))
    return "64 hex digits are an image id, not a name";
  if (const size_t at = text.find('@'); at != std::string_view::npos) {
    const std::string_view digest = text.substr(at + 1);
    if (!is_sha256(digest)) return "after \"@\" comes sha256: and 64 lower-case hex digits";
    digest_ = Digest::parse(digest);
    text = text.substr(0, at);
  }
  domain_ = kDefaultDomain;
  if (const size_t slash = text.find('/');
      slash != std::string_view::npos && looks_like_domain(text.substr(0, slash))) {
    if (text.substr(0, slash) != kLegacyDomain) domain_ = text.substr(0, slash);
    text.remove_prefix(slash + 1);
  }
  if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
    tag_ = text.substr(colon + 1);
    if (!is_tag(tag_)) return "a tag is letters, digits, \"_\", \".\" and \"-\"";
    if (tag_.size() > limits::kImageTagBytes) return "the tag is longer than 128 characters";
    text = text.substr(0, colon);
  } else if (!digest_) {
    tag_ = kDefaultTag;
  }
  if (domain_ == kDefaultDomain && text.find('/') == std::string_view::npos) path_ = kOfficial;
  path_ += text;
  if (!is_domain(domain_)) return "the part before the first slash is not a host[:port]";
  if (std::ranges::any_of(path_, is_upper)) return "the part before the tag must be lower-case";
  if (!all_parts(path_, '/', is_path_part))
    return "a path is lower-case letters and digits, separated by \"/\", \".\", \"_\", \"__\" or "
           "\"-\"";
  if (path_.size() > limits::kImagePathBytes) return "the path is longer than 255 characters";
  return {};
}

ImageName ImageName::parse(std::string_view text) {
  ImageName name;
  if (const std::string_view reason = name.assign(text); !reason.empty())
    fail(Code::invalid_argument, "{:?} is not an image name: {}", text.substr(0, 512), reason);
  return name;
}

std::optional<ImageName> ImageName::maybe_parse(std::string_view text) {
  ImageName name;
  return name.assign(text).empty() ? std::optional(std::move(name)) : std::nullopt;
}

std::string ImageName::with_suffix(std::string name) const {
  if (!tag_.empty()) name += ":" + tag_;
  if (digest_) name += "@" + digest_->str();
  return name;
}

std::string ImageName::str() const {
  return with_suffix(domain_ + "/" + path_);
}

std::string ImageName::familiar() const {
  if (domain_ != kDefaultDomain) return str();
  const std::string_view path = path_;
  const bool official =
      path.starts_with(kOfficial) && path.find('/', kOfficial.size()) == path.npos;
  return with_suffix(std::string(path.substr(official ? kOfficial.size() : 0)));
}

}  // namespace veneer
