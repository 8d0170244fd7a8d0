#include "base/digest.h"

// OpenSSL would have EVP used. That sets up providers and reads a configuration first, which takes
// longer than most verbs do, and draws all of the library into what links it statically.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "base/error.h"

namespace veneer {

namespace {

constexpr std::string_view kPrefix = "sha256:";
constexpr std::string_view kHexDigits = "0123456789abcdef";

std::byte nibble(char digit, std::string_view text) {
  const size_t value = kHexDigits.find(digit);
  if (value == std::string_view::npos)
    fail(Code::invalid_argument, "digest \"{}\" has a digit that is not lower-case hex", text);
  return static_cast<std::byte>(value);
}

}  // namespace

Digest Digest::parse(std::string_view text) {
  if (!text.starts_with(kPrefix)) {
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos || colon == 0)
      fail(Code::invalid_argument, "\"{}\" is not a digest", text);
    fail(Code::unsupported, "digest algorithm \"{}\" (only sha256 is known)",
         text.substr(0, colon));
  }
  const std::string_view hex = text.substr(kPrefix.size());
  if (hex.size() != 2 * kBytes)
    fail(Code::invalid_argument, "digest \"{}\" does not have 64 hex digits", text);
  Digest digest;
  for (size_t i = 0; i < kBytes; ++i)
    digest.bytes_[i] = (nibble(hex[2 * i], text) << 4) | nibble(hex[2 * i + 1], text);
  return digest;
}

std::string Digest::hex() const {
  std::string text;
  text.reserve(2 * kBytes);
  for (const std::byte byte : bytes_) {
    text += kHexDigits[std::to_integer<size_t>(byte >> 4)];
    text += kHexDigits[std::to_integer<size_t>(byte & std::byte{15})];
  }
  return text;
}

struct Sha256::Context {
  SHA256_CTX sha;

  void start() { VENEER_CHECK(SHA256_Init(&sha) == 1); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  context_->start();
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  VENEER_CHECK(SHA256_Update(&context_->sha, bytes.data(), bytes.size()) == 1);
}

Digest Sha256::finish() {
  std::array<std::byte, Digest::kBytes> bytes;
  VENEER_CHECK(SHA256_Final(reinterpret_cast<unsigned char*>(bytes.data()), &context_->sha) == 1);
  context_->start();
  return Digest(bytes);
}

Digest Sha256::of(std::span<const std::byte> bytes) {
  Sha256 sha;
  sha.update(bytes);
  return sha.finish();
}

Digest chain_id(const std::optional<Digest>& parent, const Digest& diff_id) {
  if (!parent) return diff_id;
  return Sha256::of(parent->str() + " " + diff_id.str());
}

}  // namespace veneer
