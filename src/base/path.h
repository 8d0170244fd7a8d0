// Paths that cannot leave the directory they are relative to.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace veneer {

class RelPath;

// A borrowed, NUL-terminated relative path without "..": what the functions of base/at.h take.
// It comes from a RelPath, from one of its tails, or from a literal.
class PathView {
 public:
  template <size_t N>
  consteval PathView(const char (&literal)[N]) : text_(literal) {  // NOLINT: implicit by design
    if (literal[0] == '/') throw "an absolute path";
    for (size_t i = 0; i + 1 < N; ++i)
      if (literal[i] == '.' && literal[i + 1] == '.') throw "a path with ..";
  }
  PathView(const RelPath& path);  // NOLINT: implicit by design
  const char* c_str() const { return text_; }

 private:
  friend class RelPath;
  friend class DirEntry;
  struct Trusted {};
  PathView(Trusted, const char* text) : text_(text) {}
  const char* text_;
};

// A normalised relative path: components joined by single slashes, none of them empty, "." or "..",
// no NUL. The empty path is the directory itself. Length is not limited here.
class RelPath {
 public:
  RelPath() = default;
  // Throws invalid_argument unless `text` is already of that form (or "" or ".").
  static RelPath parse(std::string_view text);
  // One component: parse() that also refuses "", "." and slashes. `what` names it in the error.
  static RelPath parse_name(std::string_view text, std::string_view what);
  // What `text` means to a process whose root is the directory: leading and double slashes and "."
  // are dropped, ".." goes up and stops at the root. Throws only for a NUL.
  static RelPath clamp(std::string_view text);
  // clamp() into this object, reusing its memory. False if a ".." was stopped at the root.
  bool assign_clamped(std::string_view text);
  // Takes `text`, which must be a prefix or tail of another RelPath, on component boundaries.
  void assign_part(std::string_view text) { text_.assign(text); }

  bool empty() const { return text_.empty(); }
  const std::string& str() const { return text_; }
  // "." for the directory itself, as the *at() calls want it.
  const char* c_str() const { return text_.empty() ? "." : text_.c_str(); }
  size_t depth() const;

  // "a/b" of "a/b/c"; "" at the top.
  std::string_view parent() const;
  // "c" of "a/b/c"; "" for the directory itself.
  std::string_view name() const;
  // The same as a path that lives as long as this object and is not changed.
  PathView leaf() const { return PathView(PathView::Trusted{}, empty() ? "." : name().data()); }

  // Appends one component that the kernel or parse_name() has checked.
  void push(std::string_view component);
  // Drops the last component. Must not be empty.
  void pop();
  RelPath operator/(std::string_view component) const;

  bool operator==(const RelPath&) const = default;
  auto operator<=>(const RelPath&) const = default;

 private:
  std::string text_;
};

inline PathView::PathView(const RelPath& path) : text_(path.c_str()) {}

}  // namespace veneer
