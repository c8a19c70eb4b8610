// SHA-256 as a value and as a running computation. A blob's digest is its name.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace mayfly {

struct Digest {
  std::array<std::byte, 32> bytes{};
  auto operator<=>(const Digest&) const = default;
};

std::string to_string(const Digest& digest);                // 64 lower-case hexadecimal digits
std::optional<Digest> parse_digest(std::string_view text);  // exactly that form
Digest sha256(std::span<const std::byte> bytes);
Digest sha256(std::string_view text);

// Feeds bytes as they pass by. Copyable: a copy continues from the same state.
class Sha256 {
 public:
  Sha256();
  Sha256(const Sha256& other);
  Sha256& operator=(const Sha256& other);
  Sha256(Sha256&&) noexcept = default;
  Sha256& operator=(Sha256&&) noexcept = default;
  ~Sha256() = default;

  void update(std::span<const std::byte> bytes);
  Digest digest() const;  // of what was fed so far; more may follow

 private:
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;  // EVP_MD_CTX
};

}  // namespace mayfly

template <>
struct std::hash<mayfly::Digest> {
  // A digest is already uniform: its first word will do.
  std::size_t operator()(const mayfly::Digest& digest) const noexcept {
    std::size_t word = 0;
    std::memcpy(&word, digest.bytes.data(), sizeof word);
    return word;
  }
};
