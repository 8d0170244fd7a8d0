#include "base/path.h"

#include <algorithm>

#include "base/error.h"

namespace veneer {

namespace {

void refuse_nul(std::string_view text) {
  if (text.find('\0') != std::string_view::npos)
    fail(Code::invalid_argument, "path \"{}\" holds a NUL byte", text.substr(0, text.find('\0')));
}

}  // namespace

RelPath RelPath::parse(std::string_view text) {
  RelPath path = clamp(text);
  if (path.text_ != text && text != ".")
    fail(Code::invalid_argument, "\"{}\" is not a plain relative path", text);
  return path;
}

RelPath RelPath::parse_name(std::string_view text, std::string_view what) {
  refuse_nul(text);
  if (text.empty()) fail(Code::invalid_argument, "an empty {}", what);
  if (text == "." || text == ".." || text.find('/') != std::string_view::npos)
    fail(Code::invalid_argument, "{} \"{}\" must be a plain name without slashes", what, text);
  RelPath path;
  path.text_ = text;
  return path;
}

RelPath RelPath::clamp(std::string_view text) {
  RelPath path;
  path.assign_clamped(text);
  return path;
}

bool RelPath::assign_clamped(std::string_view text) {
  refuse_nul(text);
  text_.clear();
  bool inside = true;
  while (!text.empty()) {
    const size_t slash = std::min(text.find('/'), text.size());
    const std::string_view component = text.substr(0, slash);
    text.remove_prefix(std::min(slash + 1, text.size()));
    if (component.empty() || component == ".") continue;
    if (component != "..") {
      push(component);
    } else if (text_.empty()) {
      inside = false;
    } else {
      pop();
    }
  }
  return inside;
}

size_t RelPath::depth() const {
  if (text_.empty()) return 0;
  return 1 + static_cast<size_t>(std::count(text_.begin(), text_.end(), '/'));
}

std::string_view RelPath::parent() const {
  const size_t slash = text_.rfind('/');
  return slash == std::string::npos ? std::string_view() : std::string_view(text_).substr(0, slash);
}

std::string_view RelPath::name() const {
  const size_t slash = text_.rfind('/');
  return std::string_view(text_).substr(slash == std::string::npos ? 0 : slash + 1);
}

void RelPath::push(std::string_view component) {
  if (!text_.empty()) text_ += '/';
  text_ += component;
}

void RelPath::pop() {
  VENEER_CHECK(!text_.empty());
  text_.resize(parent().size());
}

RelPath RelPath::operator/(std::string_view component) const {
  RelPath path = *this;
  path.push(component);
  return path;
}

}  // namespace veneer
