#include "identity/token_issuer.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "core/caller_reason.h"
#include "core/project.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxIssuers = 20;
constexpr std::size_t kMaxSubject = 255;  // as OpenID Connect has it
constexpr std::size_t kMaxName = 60;
constexpr std::size_t kMaxValues = 500;

std::unexpected<Error> bad_issuer(std::string_view why) {
  return refuse(reason::kInvalidSetting, std::string(why));
}

// "https://login.example/realm" → "login.example"
std::string host_in(std::string_view issuer) {
  if (const std::size_t scheme = issuer.find("://"); scheme != std::string_view::npos)
    issuer.remove_prefix(scheme + 3);
  return std::string(issuer.substr(0, issuer.find_first_of("/:")));
}

Status check_claim(const std::string& claim, std::string_view what) {
  if (!claim.starts_with('/')) return {};
  try {
    std::ignore = Json::json_pointer(claim);
  } catch (const Json::exception&) {
    return bad_issuer(fmt::format("{}: '{}' is no JSON pointer", what, claim));
  }
  return {};
}

Status read_roles(const Json& roles, TokenIssuer& issuer, std::string_view what) {
  if (!roles.is_object() || roles.empty())
    return bad_issuer(fmt::format("{}: 'roles' is an object with a role at least", what));
  for (const auto& [role, scopes] : roles.items()) {
    if (!scopes.is_string())
      return bad_issuer(fmt::format("{}: the role '{}' maps to a text of scopes", what, role));
    auto parsed = Scopes::parse(scopes.get_ref<const std::string&>());
    if (!parsed) {
      return std::unexpected(
          std::move(parsed).error().in(fmt::format("{}: the role '{}'", what, role)));
    }
    issuer.roles.emplace(role, *std::move(parsed));
  }
  return {};
}

Status check_issuer(const TokenIssuer& issuer, std::string_view what) {
  const auto one_of = [](const std::string& a, const std::string& b) {
    return a.empty() != b.empty();
  };
  const bool is_place = issuer.has_url() || Path(issuer.jwks).is_absolute();
  if (issuer.issuer.empty() || issuer.audience.empty())
    return bad_issuer(fmt::format("{}: 'issuer' and 'audience' are needed", what));
  if (!is_place) {
    return bad_issuer(
        fmt::format("{}: 'jwks' is an https URL or an absolute path, not '{}'", what, issuer.jwks));
  }
  const auto shown = [](char c) { return c > ' ' && c < 127; };
  if (issuer.name.empty() || issuer.name.size() > kMaxName ||
      !std::ranges::all_of(issuer.name, shown))
    return bad_issuer(fmt::format("{}: 'name' has 1 to {} visible characters", what, kMaxName));
  if (!one_of(issuer.project, issuer.project_claim))
    return bad_issuer(fmt::format("{}: say 'project' or 'project_claim'", what));
  if (!one_of(issuer.scopes, issuer.scopes_claim))
    return bad_issuer(fmt::format("{}: say 'scopes' or 'scopes_claim'", what));
  if (!issuer.roles.empty() && issuer.scopes_claim.empty())
    return bad_issuer(fmt::format("{}: 'roles' are values of 'scopes_claim'", what));
  if (!issuer.project.empty()) TRY(check_project(issuer.project));
  if (!issuer.scopes.empty()) TRY(Scopes::parse(issuer.scopes));
  TRY(check_claim(issuer.project_claim, what));
  return check_claim(issuer.scopes_claim, what);
}

Result<TokenIssuer> parse_issuer(const Json& json, std::string_view what) {
  JsonReader reader(json, what, reason::kInvalidSetting);
  TokenIssuer issuer;
  std::string ca;
  reader.text("issuer", issuer.issuer).text("audience", issuer.audience);
  reader.text("jwks", issuer.jwks).text("ca", ca).text("name", issuer.name);
  reader.text("project", issuer.project).text("project_claim", issuer.project_claim);
  reader.text("scopes", issuer.scopes).text("scopes_claim", issuer.scopes_claim);
  const Json* roles = reader.value("roles");
  TRY(reader.finish());
  issuer.ca = ca;
  if (roles != nullptr) TRY(read_roles(*roles, issuer, what));
  if (issuer.name.empty()) issuer.name = host_in(issuer.issuer);
  TRY(check_issuer(issuer, what));
  return issuer;
}

// ---- Claims -------------------------------------------------------------------------------------

const Json* claim_in(const Json& claims, const std::string& name) {
  if (name.starts_with('/')) {
    try {
      return &claims.at(Json::json_pointer(name));
    } catch (const Json::exception&) {
      return nullptr;  // nothing lies there
    }
  }
  const auto found = claims.find(name);
  return found == claims.end() ? nullptr : &*found;
}

// "a b", "a,b" and ["a", "b"] are the same.
std::vector<std::string> values_in(const Json* claim) {
  std::vector<std::string> values;
  if (claim == nullptr) return values;
  if (claim->is_array()) {
    for (const Json& one : *claim) {
      if (one.is_string() && values.size() < kMaxValues) values.push_back(one.get<std::string>());
    }
    return values;
  }
  if (!claim->is_string()) return values;
  std::string_view rest = claim->get_ref<const std::string&>();
  while (!rest.empty() && values.size() < kMaxValues) {
    const std::size_t end = std::min(rest.find_first_of(" ,"), rest.size());
    if (end > 0) values.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return values;
}

// The scopes that one value means; nullopt: none.
std::optional<Scopes> meaning_of(const TokenIssuer& issuer, const std::string& value) {
  if (issuer.roles.empty()) {
    auto scopes = Scopes::parse(value);
    return scopes ? std::optional(*std::move(scopes)) : std::nullopt;
  }
  const auto found = issuer.roles.find(value);
  return found == issuer.roles.end() ? std::nullopt : std::optional(found->second);
}

Result<Scopes> scopes_of(const TokenIssuer& issuer, const Json& claims) {
  if (!issuer.scopes.empty()) return Scopes::parse(issuer.scopes);
  std::string all;
  for (const std::string& value : values_in(claim_in(claims, issuer.scopes_claim))) {
    if (const auto scopes = meaning_of(issuer, value))
      all += (all.empty() ? "" : ",") + scopes->str();
  }
  if (all.empty()) return Scopes();
  auto scopes = Scopes::parse(all);
  if (scopes) return scopes;
  return refuse(reason::kUnauthenticated, fmt::format("the token is not accepted: its scopes are "
                                                      "too many: {}",
                                                      scopes.error().message));
}

Result<std::string> subject_of_token(const Json& claims) {
  const Json* subject = claim_in(claims, "sub");
  const auto visible = [](char c) { return c >= ' ' && c != 127; };
  const bool good = subject != nullptr && subject->is_string() &&
                    !subject->get_ref<const std::string&>().empty() &&
                    subject->get_ref<const std::string&>().size() <= kMaxSubject &&
                    std::ranges::all_of(subject->get_ref<const std::string&>(), visible);
  if (good) return subject->get<std::string>();
  return refuse(reason::kUnauthenticated,
                fmt::format("the token is not accepted: its 'sub' is no name of at most {} visible "
                            "characters",
                            kMaxSubject));
}

Result<std::string> project_of_token(const TokenIssuer& issuer, const Json& claims) {
  if (!issuer.project.empty()) return issuer.project;
  const Json* claim = claim_in(claims, issuer.project_claim);
  if (claim != nullptr && claim->is_string() && check_project(claim->get_ref<const std::string&>()))
    return claim->get<std::string>();
  return refuse(
      reason::kUnauthenticated,
      fmt::format("the token is not accepted: its '{}' names no project", issuer.project_claim));
}

}  // namespace

Result<std::vector<TokenIssuer>> parse_issuers(std::string_view text) {
  const Json json = TRY(parse_json(text, "issuers"));
  JsonReader reader(json, "issuers", reason::kInvalidSetting);
  const Json* list = reader.value("issuers");
  TRY(reader.finish());
  if (list == nullptr || !list->is_array() || list->empty() || list->size() > kMaxIssuers)
    return bad_issuer(fmt::format("'issuers' is a list of 1 to {} issuers", kMaxIssuers));
  std::vector<TokenIssuer> issuers;
  for (const Json& one : *list) {
    TokenIssuer issuer = TRY(parse_issuer(one, fmt::format("issuers[{}]", issuers.size())));
    if (std::ranges::find(issuers, issuer.issuer, &TokenIssuer::issuer) != issuers.end())
      return bad_issuer(fmt::format("the issuer '{}' stands twice", issuer.issuer));
    if (std::ranges::find(issuers, issuer.name, &TokenIssuer::name) != issuers.end()) {
      return bad_issuer(
          fmt::format("two issuers are called '{}': give each a 'name'", issuer.name));
    }
    issuers.push_back(std::move(issuer));
  }
  return issuers;
}

Result<PrincipalRef> principal_of(const TokenIssuer& issuer, const Json& claims) {
  const std::string subject = TRY(subject_of_token(claims));
  const std::string project = TRY(project_of_token(issuer, claims));
  Scopes scopes = TRY(scopes_of(issuer, claims));
  const bool by_mapping =
      !issuer.project.empty() && (!issuer.scopes.empty() || !issuer.roles.empty());
  if (project == kDefaultProject && !by_mapping)
    scopes = scopes.without(Verb::Admin).without(Verb::Metrics);
  return std::make_shared<const Principal>(
      Principal{.means = Principal::Means::Token,
                .project = project,
                .name = fmt::format("{} ({})", subject, issuer.name),
                .scopes = std::move(scopes)});
}

}  // namespace mayfly
