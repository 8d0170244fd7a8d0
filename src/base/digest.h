// SHA-256 digests in the form that OCI writes them: "sha256:" and 64 lower-case hex digits
// (image-spec descriptor.md).
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace veneer {

class Digest {
 public:
  static constexpr size_t kBytes = 32;

  Digest() = default;  // all zero
  explicit Digest(const std::array<std::byte, kBytes>& bytes) : bytes_(bytes) {}
  // "sha256:<hex>", nothing else. Throws invalid_argument; other algorithms are unsupported.
  static Digest parse(std::string_view text);

  std::string hex() const;
  std::string str() const { return "sha256:" + hex(); }
  const std::array<std::byte, kBytes>& bytes() const { return bytes_; }

  bool operator==(const Digest&) const = default;
  auto operator<=>(const Digest&) const = default;

 private:
  std::array<std::byte, kBytes> bytes_{};
};

// A running SHA-256.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void update(std::span<const std::byte> bytes);
  // The digest of all that was given; the object starts anew.
  Digest finish();

  static Digest of(std::span<const std::byte> bytes);
  static Digest of(std::string_view text) { return of(std::as_bytes(std::span(text))); }

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// The ChainID of `diff_id` over `parent` (image-spec config.md, "Layer ChainID").
Digest chain_id(const std::optional<Digest>& parent, const Digest& diff_id);

}  // namespace veneer
