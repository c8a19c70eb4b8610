#include "core/invocation.h"

#include <algorithm>
#include <span>

namespace mayfly {
namespace {

constexpr std::size_t kTextLength = 36;
constexpr std::string_view kHex = "0123456789abcdef";

bool is_dash_position(std::size_t i) { return i == 8 || i == 13 || i == 18 || i == 23; }

}  // namespace

std::string to_string(const InvocationId& id) {
  std::string text(kTextLength, '-');
  std::size_t at = 0;
  for (const std::byte byte : id.bytes) {
    if (is_dash_position(at)) ++at;
    text[at++] = kHex[static_cast<std::size_t>(byte >> 4)];
    text[at++] = kHex[static_cast<std::size_t>(byte & std::byte{15})];
  }
  return text;
}

InvocationId InvocationIds::next() {
  if (left_ < 8) {
    rng_.fill(pool_);
    left_ = pool_.size();
  }
  const auto wall =
      std::chrono::duration_cast<std::chrono::milliseconds>(clock_.wall_now().time_since_epoch());
  last_ = std::max(last_ + 1, static_cast<std::uint64_t>(wall.count()) << 12);

  InvocationId id;
  const std::uint64_t millis = last_ >> 12;
  for (std::size_t i = 0; i < 6; ++i) id.bytes[i] = static_cast<std::byte>(millis >> (40 - 8 * i));
  id.bytes[6] = static_cast<std::byte>(0x70 | ((last_ >> 8) & 0x0f));
  id.bytes[7] = static_cast<std::byte>(last_ & 0xff);
  std::copy_n(pool_.end() - static_cast<std::ptrdiff_t>(left_), 8, id.bytes.begin() + 8);
  left_ -= 8;
  id.bytes[8] = (id.bytes[8] & std::byte{0x3f}) | std::byte{0x80};
  return id;
}

std::string_view to_string(StartTier tier) {
  switch (tier) {
    case StartTier::Hot:
      return "hot";
    case StartTier::Template:
      return "template";
    case StartTier::Cold:
      return "cold";
    case StartTier::Origin:
      return "origin";
    case StartTier::None:
      return "none";
    case StartTier::Environment:
      return "environment";
  }
  return "none";
}

}  // namespace mayfly
