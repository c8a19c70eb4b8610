#include "remote/s3_place.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::string_view kScheme = "s3://";
constexpr std::size_t kLongestKey = 1024;
constexpr std::size_t kLongestBucket = 63;
constexpr std::size_t kShortestBucket = 3;

bool is_plain(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; }

bool is_unreserved(char c) {
  return is_plain(c) || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '~';
}

bool is_bucket(std::string_view name) {
  return name.size() >= kShortestBucket && name.size() <= kLongestBucket &&
         std::ranges::all_of(name, [](char c) { return is_plain(c) || c == '.'; }) &&
         !name.starts_with('.') && !name.starts_with('-') && !name.ends_with('.') &&
         !name.ends_with('-') && name.find("..") == std::string_view::npos;
}

// A path of "." or ".." means another place to whoever normalises it.
bool has_dots(std::string_view key) {
  while (!key.empty()) {
    const std::size_t slash = std::min(key.find('/'), key.size());
    const std::string_view part = key.substr(0, slash);
    if (part == "." || part == "..") return true;
    key.remove_prefix(std::min(slash + 1, key.size()));
  }
  return false;
}

std::string authority(const Url& url, std::string_view host) {
  const bool usual = url.port == (url.tls ? 443 : 80);
  const std::string name =
      host.find(':') == std::string_view::npos ? std::string(host) : fmt::format("[{}]", host);
  return usual ? name : fmt::format("{}:{}", name, url.port);
}

}  // namespace

Result<S3Address> parse_s3_address(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("'{}' is no address in an object store: {}", text, why));
  };
  if (!text.starts_with(kScheme)) return bad("it must be s3://BUCKET/KEY");
  const std::string_view rest = text.substr(kScheme.size());
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  S3Address address{.bucket = std::string(rest.substr(0, slash)),
                    .key = std::string(rest.substr(std::min(slash + 1, rest.size())))};
  if (!is_bucket(address.bucket)) {
    return bad("a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens");
  }
  if (address.key.size() > kLongestKey) return bad("a key has at most 1024 bytes");
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::ranges::any_of(address.key, is_control)) return bad("its key has a control character");
  if (has_dots(address.key)) return bad("its key has a part '.' or '..'");
  return address;
}

Result<S3Place> S3Place::create(const S3Service& service, std::string bucket) {
  const auto is_region = [](std::string_view text) {
    return !text.empty() && text.size() <= kLongestBucket && std::ranges::all_of(text, is_plain);
  };
  if (!is_region(service.region)) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("'{}' is no region; most look like eu-central-1", service.region));
  }
  const std::string text = service.endpoint.empty()
                               ? fmt::format("https://s3.{}.amazonaws.com", service.region)
                               : service.endpoint;
  auto url = parse_url(text);
  if (!url || !url->unix_socket.empty() || !url->prefix.empty()) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("'{}' is no endpoint: it must be https://HOST[:PORT]", text));
  }
  return S3Place(*std::move(url), service.region, service.addressing, std::move(bucket));
}

S3Target S3Place::target(std::string_view key) const {
  S3Target target{.server = endpoint_, .host = {}, .path = "/" + s3_encode(key, Slashes::Stay)};
  if (addressing_ == S3Addressing::Virtual) {
    target.server.host = fmt::format("{}.{}", bucket_, endpoint_.host);
  } else {
    target.path = "/" + bucket_ + (key.empty() ? "" : target.path);
  }
  target.host = authority(target.server, target.server.host);
  return target;
}

std::string s3_encode(std::string_view text, Slashes slashes) {
  std::string encoded;
  for (const char c : text) {
    if (is_unreserved(c) || (c == '/' && slashes == Slashes::Stay)) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

std::string s3_query_text(const S3Query& query) {
  S3Query encoded;
  for (const auto& [name, value] : query) {
    encoded.emplace_back(s3_encode(name, Slashes::Encoded), s3_encode(value, Slashes::Encoded));
  }
  std::ranges::sort(encoded);
  std::string text;
  for (const auto& [name, value] : encoded) {
    text += fmt::format("{}{}={}", text.empty() ? "" : "&", name, value);
  }
  return text;
}

}  // namespace mayfly
