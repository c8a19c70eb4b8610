#include "remote/sigv4.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/check.h"
#include "store/digest.h"

namespace mayfly {
namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";

Digest hmac(std::string_view key, std::string_view text) {
  Digest mac;
  unsigned int size = 0;
  CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
             reinterpret_cast<const unsigned char*>(text.data()), text.size(),
             reinterpret_cast<unsigned char*>(mac.bytes.data()), &size) != nullptr);
  CHECK(size == mac.bytes.size());
  return mac;
}

std::string_view raw(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size()};
}

std::string lower(std::string_view text) {
  std::string low(text);
  std::ranges::transform(low, low.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return low;
}

}  // namespace

Headers sign_v4(const SigV4Request& request, const S3Credentials& credentials,
                std::string_view region, WallTime now) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(
      std::chrono::time_point_cast<std::chrono::system_clock::duration>(now));
  const std::string when = fmt::format("{:%Y%m%dT%H%M%SZ}", fmt::gmtime(seconds));
  const std::string day = when.substr(0, 8);

  std::map<std::string, std::string> signed_headers;
  for (std::size_t i = 0; i < request.headers.size(); ++i) {
    signed_headers[lower(request.headers[i].name)] = trim_blanks(request.headers[i].value);
  }
  signed_headers["x-amz-content-sha256"] = request.sha256;
  signed_headers["x-amz-date"] = when;
  if (!credentials.token.empty()) signed_headers["x-amz-security-token"] = credentials.token;

  std::string names;
  std::string lines;
  Headers headers;
  for (const auto& [name, value] : signed_headers) {
    names += (names.empty() ? "" : ";") + name;
    lines += fmt::format("{}:{}\n", name, value);
    headers.add(name, value);
  }
  const std::string canonical = fmt::format("{}\n{}\n{}\n{}\n{}\n{}", request.method, request.path,
                                            request.query, lines, names, request.sha256);
  const std::string scope = fmt::format("{}/{}/s3/aws4_request", day, region);
  const std::string to_sign =
      fmt::format("{}\n{}\n{}\n{}", kAlgorithm, when, scope, to_string(sha256(canonical)));
  Digest key = hmac("AWS4" + credentials.secret, day);
  for (const std::string_view step :
       {region, std::string_view("s3"), std::string_view("aws4_request")})
    key = hmac(raw(key), step);
  headers.add("Authorization",
              fmt::format("{} Credential={}/{},SignedHeaders={},Signature={}", kAlgorithm,
                          credentials.id, scope, names, to_string(hmac(raw(key), to_sign))));
  return headers;
}

}  // namespace mayfly
