#include "trace/trace_context.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <span>

namespace mayfly {
namespace {

constexpr std::size_t kLength = 55;  // of version 00
constexpr std::uint64_t kSampled = 1;

std::optional<unsigned> digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  return std::nullopt;
}

// Lower-case digits, twice as many as bytes.
bool read_hex(std::string_view text, std::span<std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto high = digit(text[2 * i]);
    const auto low = digit(text[2 * i + 1]);
    if (!high || !low) return false;
    bytes[i] = static_cast<std::byte>(*high << 4U | *low);
  }
  return true;
}

bool is_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{}; });
}

template <std::size_t Size>
std::string hex_of(const std::array<std::byte, Size>& bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

template <typename Id>
Id random_id(Rng& rng) {
  Id id{};
  while (is_zero(id)) rng.fill(id);
  return id;
}

}  // namespace

std::optional<TraceContext> parse_traceparent(std::string_view header) {
  if (header.size() < kLength) return std::nullopt;
  std::array<std::byte, 1> version{};
  std::array<std::byte, 1> flags{};
  TraceContext context;
  const bool parts =
      header[2] == '-' && header[35] == '-' && header[52] == '-' &&
      read_hex(header.substr(0, 2), version) && read_hex(header.substr(3, 32), context.trace) &&
      read_hex(header.substr(36, 16), context.span) && read_hex(header.substr(53, 2), flags);
  if (!parts || is_zero(context.trace) || is_zero(context.span)) return std::nullopt;
  if (version[0] == std::byte{0xff}) return std::nullopt;
  const bool more = header.size() > kLength;
  if (more && (version[0] == std::byte{} || header[kLength] != '-')) return std::nullopt;
  context.sampled = (std::to_integer<std::uint64_t>(flags[0]) & kSampled) != 0;
  return context;
}

std::string to_traceparent(const TraceContext& context) {
  return fmt::format("00-{}-{}-{:02x}", hex(context.trace), hex(context.span),
                     context.sampled ? kSampled : 0);
}

std::string hex(const TraceId& id) { return hex_of(id); }
std::string hex(const SpanId& id) { return hex_of(id); }

SpanId make_span_id(Rng& rng) { return random_id<SpanId>(rng); }
TraceId make_trace_id(Rng& rng) { return random_id<TraceId>(rng); }

bool samples(const TraceId& id, double ratio) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, id.data() + sizeof(TraceId) - sizeof bits, sizeof bits);
  // 53 bits are what a double holds.
  return static_cast<double>(bits >> 11U) < ratio * 0x1p53;
}

}  // namespace mayfly
