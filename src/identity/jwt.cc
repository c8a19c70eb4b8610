#include "identity/jwt.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "core/caller_reason.h"
#include "core/printable.h"
#include "core/reason.h"
#include "identity/base64url.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxHeader = 2 * 1024;
constexpr std::size_t kMaxAudiences = 32;
constexpr double kLatest = 9e9;  // seconds: the year 2255; beyond it a time would overflow

std::unexpected<Error> bad_token(std::string_view why) {
  return refuse(reason::kUnauthenticated, fmt::format("the token is not accepted: {}", why));
}

// Whether some object of the text names a member twice: readers differ in which of the two counts.
bool names_twice(std::string_view text) {
  std::vector<std::set<std::string>> open;
  bool twice = false;
  const auto look = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key)
      twice |= !open.back().insert(parsed.get<std::string>()).second;
    return true;
  };
  std::ignore = Json::parse(text, look, false);
  return twice;
}

Result<Json> object_in(std::string_view part, std::string_view what) {
  const auto text = decode_base64url(part);
  if (!text) return bad_token(fmt::format("its {} is not base64url", what));
  auto json = parse_json(*text, what);
  if (!json || !json->is_object()) return bad_token(fmt::format("its {} is no JSON object", what));
  if (names_twice(*text)) return bad_token(fmt::format("its {} names a member twice", what));
  return json;
}

Result<std::string> text_member(const Json& json, std::string_view member) {
  const auto found = json.find(member);
  if (found == json.end() || !found->is_string() || found->get_ref<const std::string&>().empty())
    return bad_token(fmt::format("it has no '{}'", member));
  return found->get<std::string>();
}

// A NumericDate (RFC 7519 §2); nullopt: the member is not there.
Result<std::optional<WallTime>> time_member(const Json& json, std::string_view member) {
  const auto found = json.find(member);
  if (found == json.end()) return std::nullopt;
  const double seconds = found->is_number() ? found->get<double>() : -1;
  if (!std::isfinite(seconds) || seconds < 0 || seconds > kLatest)
    return bad_token(fmt::format("its '{}' is no time", member));
  return WallTime(std::chrono::seconds(static_cast<std::int64_t>(seconds)));
}

bool is_for(const Json& claims, std::string_view audience) {
  const auto found = claims.find("aud");
  if (found == claims.end()) return false;
  if (found->is_string()) return found->get_ref<const std::string&>() == audience;
  if (!found->is_array() || found->size() > kMaxAudiences) return false;
  return std::ranges::any_of(*found, [&](const Json& one) {
    return one.is_string() && one.get_ref<const std::string&>() == audience;
  });
}

}  // namespace

bool looks_like_token(std::string_view text) { return std::ranges::count(text, '.') == 2; }

Result<Token> parse_token(std::string_view text) {
  if (text.size() > kMaxToken)
    return bad_token(fmt::format("it has more than {} bytes", kMaxToken));
  if (!looks_like_token(text)) return bad_token("it has not three parts");
  const std::size_t first = text.find('.');
  const std::size_t second = text.find('.', first + 1);
  if (first > kMaxHeader) return bad_token("its header is too long");
  const Json header = TRY(object_in(text.substr(0, first), "header"));
  // What is critical must be understood (RFC 7515 §4.1.11), and nothing is.
  if (header.contains("crit")) return bad_token("its header has extensions");
  Token token{.algorithm = TRY(text_member(header, "alg")),
              .key_id = TRY(text_member(header, "kid")),
              .claims = TRY(object_in(text.substr(first + 1, second - first - 1), "claims")),
              .issuer = {},
              .signed_text = text.substr(0, second),
              .signature = {}};
  token.issuer = TRY(text_member(token.claims, "iss"));
  auto signature = decode_base64url(text.substr(second + 1));
  if (!signature || signature->empty()) return bad_token("its signature is not base64url");
  token.signature = *std::move(signature);
  return token;
}

Status verify_signature(const Token& token, const KeySet& keys) {
  const VerificationKey* key = keys.find(token.key_id);
  if (key == nullptr) {
    return bad_token(fmt::format("its issuer has no key '{}' here", printable(token.key_id, 64)));
  }
  if (token.algorithm != key->algorithm())
    return bad_token(fmt::format("its key is for {}", key->algorithm()));
  if (!key->verifies(token.signed_text, token.signature))
    return bad_token("its signature is wrong");
  return {};
}

Result<WallTime> check_claims(const Token& token, std::string_view audience, WallTime now) {
  if (!is_for(token.claims, audience)) return bad_token("its 'aud' is not this node's");
  const auto ends = TRY(time_member(token.claims, "exp"));
  if (!ends) return bad_token("it has no 'exp'");
  if (now >= *ends + kClockSkew) return bad_token("it has expired");
  const auto begins = TRY(time_member(token.claims, "nbf"));
  if (begins && now + kClockSkew < *begins) return bad_token("its time has not begun");
  return *ends + kClockSkew;
}

}  // namespace mayfly
