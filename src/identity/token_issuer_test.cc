#include "identity/token_issuer.h"

#include <fmt/format.h>

#include "core/caller_reason.h"
#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

Result<std::vector<TokenIssuer>> issuers_with(std::string_view members) {
  return parse_issuers(fmt::format(
      R"({{"issuers":[{{"issuer":"https://login.example/realm","audience":"mayfly","jwks":"/k"{}}}]}})",
      members));
}

TokenIssuer issuer_with(std::string_view members) { return issuers_with(members).value().at(0); }

// "project name scopes", or the error's words.
std::string meant(const TokenIssuer& issuer, const char* claims) {
  const auto who = principal_of(issuer, Json::parse(claims));
  if (!who) return who.error().message;
  CHECK((*who)->means == Principal::Means::Token);
  return fmt::format("{} {} {}", (*who)->project, (*who)->name, (*who)->scopes.str());
}

}  // namespace

TEST_CASE("a fixed mapping says which project and scopes tokens have") {
  const TokenIssuer issuer = issuer_with(R"(,"project":"team","scopes":"invoke:*,read:*")");
  CHECK(meant(issuer, R"({"sub":"ann"})") == "team ann (login.example) invoke:*,read:*");
  CHECK(meant(issuer, R"({"sub":"ann","project":"other","scope":"admin"})") ==
        "team ann (login.example) invoke:*,read:*");
}

TEST_CASE("claims say it where the mapping names them, and what means no scope gives none") {
  const TokenIssuer issuer =
      issuer_with(R"(,"project_claim":"tenant","scopes_claim":"scope","name":"idp")");
  CHECK(meant(issuer, R"({"sub":"a","tenant":"t","scope":"openid invoke:f deploy"})") ==
        "t a (idp) invoke:f,deploy:*");
  CHECK(meant(issuer, R"({"sub":"a","tenant":"t","scope":"read,invoke:f"})") ==
        "t a (idp) read:*,invoke:f");
  CHECK(meant(issuer, R"({"sub":"a","tenant":"t","scope":["read",7,"x"]})") == "t a (idp) read:*");
  CHECK(meant(issuer, R"({"sub":"a","tenant":"t"})") == "t a (idp) ");
  CHECK(meant(issuer, R"({"sub":"a","tenant":"T/x","scope":"read"})").contains("names no project"));
  CHECK(meant(issuer, R"({"sub":"a","scope":"read"})").contains("'tenant' names no project"));
}

TEST_CASE("roles mean what the mapping says, wherever they lie") {
  const TokenIssuer issuer = issuer_with(
      R"(,"project":"team","scopes_claim":"/realm/roles","roles":{"dev":"deploy:*,read:*","ops":"admin"})");
  CHECK(meant(issuer, R"({"sub":"a","realm":{"roles":["dev","admin","ops"]}})") ==
        "team a (login.example) deploy:*,read:*,admin:*");
  for (const char* none : {R"({"sub":"a"})", R"({"sub":"a","realm":7})",
                           R"({"sub":"a","realm":[1]})", R"({"sub":"a","/realm/roles":"dev"})"})
    CHECK(meant(issuer, none) == "team a (login.example) ");
}

TEST_CASE("who speaks for the node is said by the mapping, not by a claim") {
  const char* claims = R"({"sub":"a","p":"default","s":"admin metrics read"})";
  CHECK(meant(issuer_with(R"(,"project_claim":"p","scopes_claim":"s")"), claims) ==
        "default a (login.example) read:*");
  CHECK(meant(issuer_with(R"(,"project":"default","scopes_claim":"s")"), claims) ==
        "default a (login.example) read:*");
  CHECK(meant(issuer_with(R"(,"project_claim":"p","scopes":"admin,read")"), claims) ==
        "default a (login.example) read:*");
  CHECK(meant(issuer_with(R"(,"project":"default","scopes":"admin")"), claims) ==
        "default a (login.example) admin:*");
  CHECK(meant(issuer_with(R"(,"project":"default","scopes_claim":"s","roles":{"read":"admin"})"),
              claims) == "default a (login.example) admin:*");
  CHECK(meant(issuer_with(R"(,"project":"team","scopes_claim":"s")"), claims) ==
        "team a (login.example) admin:*,metrics:*,read:*");
}

TEST_CASE("two issuers have two names, so that their people are told apart") {
  const auto parsed = [](std::string_view second) {
    const std::string one =
        R"({"audience":"a","jwks":"/keys","project":"t","scopes":"read","issuer":"https://login/)";
    return parse_issuers(R"({"issuers":[)" + one + R"(a"},)" + one + std::string(second) + "]}");
  };
  const auto alike = parsed(R"(b"})");
  REQUIRE_FALSE(alike.has_value());
  CHECK(alike.error().message.find("two issuers are called 'login'") != std::string::npos);
  CHECK(parsed(R"(b","name":"b"})").has_value());
}

TEST_CASE("a token of more scopes than a caller may have is no slip of the request") {
  const TokenIssuer issuer = issuer_with(R"(,"project":"t","scopes_claim":"scope","name":"idp")");
  std::string many;
  for (int i = 0; i < 65; ++i) many += "invoke:f" + std::to_string(i) + " ";
  const auto who = principal_of(issuer, Json{{"sub", "ann"}, {"scope", many}});
  REQUIRE_FALSE(who.has_value());
  CHECK(who.error().reason == reason::kUnauthenticated);
}

TEST_CASE("a caller without a name is nobody") {
  const TokenIssuer issuer = issuer_with(R"(,"project":"team","scopes":"read")");
  const std::string huge = R"({"sub":")" + std::string(256, 'x') + R"("})";
  for (const std::string& claims :
       {std::string("{}"), std::string(R"({"sub":""})"), std::string(R"({"sub":7})"),
        std::string(R"({"sub":"a\u001bb"})"), huge}) {
    CHECK(meant(issuer, claims.c_str()).contains("'sub'"));
  }
}

TEST_CASE("a mapping that says too little, too much or something unknown is refused") {
  for (const char* bad : {
           "",
           R"(,"project":"t")",
           R"(,"scopes":"read")",
           R"(,"project":"T","scopes":"read")",
           R"(,"project":"t","project_claim":"p","scopes":"read")",
           R"(,"project":"t","scopes":"read","scopes_claim":"s")",
           R"(,"project":"t","scopes":"fly")",
           R"(,"project":"t","scopes":"read","roles":{"a":"read"})",
           R"(,"project":"t","scopes_claim":"s","roles":{"a":"fly"})",
           R"(,"project":"t","scopes_claim":"s","roles":["a"])",
           R"(,"project":"t","scopes_claim":"s","roles":{})",
           R"(,"project":"t","scopes":"read","name":"a b")",
           R"(,"project":"t","scopes_claim":"/a~b")",
           R"(,"project":"t","scopes":"read","x":1)",
       }) {
    CAPTURE(bad);
    const auto parsed = issuers_with(bad);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().reason == reason::kInvalidSetting);
  }
  const std::string one =
      R"({"issuer":"i","audience":"a","jwks":"JWKS","project":"t","scopes":"read"})";
  const auto with_jwks = [&](std::string_view jwks) {
    std::string text = one;
    return text.replace(text.find("JWKS"), 4, jwks);
  };
  CHECK(parse_issuers(R"({"issuers":[)" + with_jwks("https://x/k") + "]}")->at(0).has_url());
  for (const std::string& bad :
       {with_jwks("http://x/k"), with_jwks("keys.json"), with_jwks(""),
        with_jwks("/k") + "," + with_jwks("/k"), std::string("7"), std::string()}) {
    CHECK_FALSE(parse_issuers(R"({"issuers":[)" + bad + "]}").has_value());
  }
}
