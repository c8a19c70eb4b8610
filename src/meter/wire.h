// Little-endian integers and short texts, written to and read from the ledger's formats.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace mayfly {

using Uint128 = unsigned __int128;

inline constexpr std::size_t kMaxWireText = 255;

// CRC-32, as zlib computes it: guards every record and file of the ledger.
inline std::uint32_t checksum(std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(
      ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

// Appends to `out`, which outlives me.
class WireWriter {
 public:
  explicit WireWriter(std::string& out) : out_(out) {}

  template <typename T>
    requires(static_cast<T>(-1) > 0)  // unsigned, __int128 included
  void put(T value) {
    for (std::size_t i = 0; i < sizeof value; ++i) {
      out_ += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
    }
  }
  void put_bytes(std::span<const std::byte> bytes) {
    out_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  // A length byte and the text; what is longer than 255 bytes is cut.
  void put_text(std::string_view text) {
    text = text.substr(0, kMaxWireText);
    put(static_cast<std::uint8_t>(text.size()));
    out_ += text;
  }

 private:
  std::string& out_;
};

// Reads what WireWriter wrote. Reading past the end gives zeros and makes ok() false for good.
class WireReader {
 public:
  explicit WireReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  bool at_end() const { return bytes_.empty(); }

  template <typename T>
  T get() {
    const auto bytes = take(sizeof(T));
    T value = 0;
    for (std::size_t i = bytes.size(); i > 0; --i) {
      value = static_cast<T>(value << 7 << 1 | std::to_integer<T>(bytes[i - 1]));
    }
    return value;
  }
  std::span<const std::byte> take(std::size_t count) {
    if (count > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    const auto taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }
  std::string get_text() {
    const auto text = take(get<std::uint8_t>());
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  bool ok_ = true;
};

}  // namespace mayfly
