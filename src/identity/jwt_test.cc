#include "identity/jwt.h"

#include <fmt/format.h>

#include <string>

#include "core/caller_reason.h"
#include "identity/testing/test_issuer.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

constexpr WallTime kNow{std::chrono::seconds(1'800'000'000)};
constexpr std::string_view kGood =
    R"({"iss":"https://login.example","sub":"ann","aud":"mayfly","exp":1800000600})";

struct Signers {
  TestIssuer rsa{"RS256", "r1"};
  TestIssuer ec{"ES256", "e1"};
  KeySet keys = KeySet::parse(fmt::format(R"({{"keys":[{},{}]}})", rsa.jwk(), ec.jwk())).value();

  // What a reader of tokens answers: "ok", or the error's words.
  std::string outcome(std::string_view text, WallTime now = kNow) const {
    const auto read = [&]() -> Result<WallTime> {
      const Token token = TRY(parse_token(text));
      TRY(verify_signature(token, keys));
      return check_claims(token, "mayfly", now);
    };
    const auto done = read();
    if (done) return "ok";
    CHECK(done.error().reason == reason::kUnauthenticated);
    return done.error().message;
  }
};

std::string claims_with(std::string_view members) {
  return fmt::format(R"({{"iss":"i","sub":"ann",{}}})", members);
}

}  // namespace

TEST_CASE("a token that its issuer signed for this node is accepted, by both algorithms") {
  const Signers s;
  CHECK(s.outcome(s.rsa.token(kGood)) == "ok");
  CHECK(s.outcome(s.ec.token(kGood)) == "ok");
  CHECK(s.outcome(s.ec.token(claims_with(R"("aud":["x","mayfly"],"exp":1800000600.5)"))) == "ok");
  CHECK(s.outcome(s.rsa.sign(R"({"alg":"RS256","kid":"r1","typ":"at+jwt","jku":"https://evil"})",
                             kGood)) == "ok");
}

TEST_CASE("a token has its time, with a minute for clocks that differ") {
  const Signers s;
  const std::string token = s.ec.token(claims_with(R"("aud":"mayfly","exp":1800000600)"));
  CHECK(s.outcome(token, kNow + 659s) == "ok");
  CHECK(s.outcome(token, kNow + 660s).contains("expired"));
  const std::string later =
      s.ec.token(claims_with(R"("aud":"mayfly","exp":1800000600,"nbf":1800000100)"));
  CHECK(s.outcome(later, kNow + 39s).contains("not begun"));
  CHECK(s.outcome(later, kNow + 40s) == "ok");
}

TEST_CASE("a token cannot choose how it is checked") {
  const Signers s;
  CHECK(s.outcome(s.rsa.confused_token(kGood)).contains("key is for RS256"));
  CHECK(s.outcome(s.rsa.sign(R"({"alg":"none","kid":"r1"})", kGood)).contains("key is for RS256"));
  CHECK(s.outcome(token_text(R"({"alg":"none","kid":"r1"})", kGood) + ".").contains("signature"));
  CHECK(s.outcome(s.ec.sign(R"({"alg":"RS256","kid":"e1"})", kGood)).contains("key is for ES256"));
  CHECK(s.outcome(s.ec.sign(R"({"alg":"ES256","kid":"r1"})", kGood)).contains("key is for RS256"));
  CHECK(s.outcome(s.rsa.sign(R"({"alg":"RS384","kid":"r1"})", kGood)).contains("key is for RS256"));
  CHECK(s.outcome(s.rsa.sign(R"({"alg":"RS256","kid":"gone"})", kGood)).contains("no key 'gone'"));
  CHECK(s.outcome(s.rsa.sign(R"({"alg":"RS256"})", kGood)).contains("no 'kid'"));
  CHECK(s.outcome(s.rsa.sign(R"({"kid":"r1"})", kGood)).contains("no 'alg'"));
  CHECK(s.outcome(s.rsa.sign(R"({"alg":"RS256","kid":"r1","crit":["b64"],"b64":false})", kGood))
            .contains("extensions"));
  const TestIssuer stranger("ES256", "e1");
  CHECK(s.outcome(stranger.token(kGood)).contains("signature is wrong"));
}

TEST_CASE("what was altered or written otherwise is not a token") {
  const Signers s;
  for (const TestIssuer* signer : {&s.rsa, &s.ec}) {
    const std::string good = signer->token(kGood);
    const std::size_t dot = good.find('.');
    const std::size_t last = good.rfind('.');
    const std::string other = base64url_of(claims_with(R"("aud":"mayfly","exp":1900000000)"));
    CHECK(s.outcome(good.substr(0, dot + 1) + other + good.substr(last)).contains("is wrong"));
    for (const std::string& bad :
         {good.substr(0, last), good.substr(0, last + 1), good.substr(0, good.size() - 1),
          good + ".", good + ".x", "." + good, good + "=", good + "A", good + "\n", " " + good,
          good.substr(0, dot) + good.substr(dot + 1), std::string("a.b.c"), std::string(".."),
          std::string()}) {
      CHECK_MESSAGE(s.outcome(bad) != "ok", bad);
    }
    for (std::size_t at = 0; at < good.size(); ++at) {
      std::string bad = good;
      bad[at] = bad[at] == 'A' ? 'B' : 'A';
      CHECK_MESSAGE(s.outcome(bad) != "ok", at);
    }
  }
  // The same bits under another text: the last digit of 64 bytes has four that mean nothing.
  std::string twin = s.ec.token(kGood);
  twin.back() = static_cast<char>(twin.back() + 1);
  CHECK(s.outcome(twin) != "ok");
  CHECK(s.outcome(s.rsa.token(std::string(kMaxToken, ' '))).contains("more than"));
  CHECK(s.outcome(std::string(1'000'000, '.')).contains("more than"));
}

TEST_CASE("claims that are missing, foreign or of a wrong kind are refused") {
  const Signers s;
  struct Case {
    const char* claims;
    const char* words;
  };
  for (const Case& c : {
           Case{R"({"sub":"a","aud":"mayfly","exp":1800000600})", "no 'iss'"},
           Case{R"({"iss":7,"sub":"a","aud":"mayfly","exp":1800000600})", "no 'iss'"},
           Case{R"({"iss":"i","exp":1800000600})", "'aud'"},
           Case{R"({"iss":"i","aud":"other","exp":1800000600})", "'aud'"},
           Case{R"({"iss":"i","aud":["other"],"exp":1800000600})", "'aud'"},
           Case{R"({"iss":"i","aud":{"mayfly":1},"exp":1800000600})", "'aud'"},
           Case{R"({"iss":"i","aud":"mayfly2","exp":1800000600})", "'aud'"},
           Case{R"({"iss":"i","aud":"mayfly"})", "no 'exp'"},
           Case{R"({"iss":"i","aud":"mayfly","exp":"1800000600"})", "'exp' is no time"},
           Case{R"({"iss":"i","aud":"mayfly","exp":-1})", "'exp' is no time"},
           Case{R"({"iss":"i","aud":"mayfly","exp":1e300})", "'exp' is no time"},
           Case{R"({"iss":"i","aud":"mayfly","exp":18446744073709551615})", "'exp' is no time"},
           Case{R"({"iss":"i","aud":"mayfly","exp":1800000600,"nbf":null})", "'nbf' is no time"},
           Case{R"({"iss":"i","aud":"mayfly","exp":1,"exp":1800000600})", "twice"},
           Case{R"({"iss":"i","aud":"mayfly","exp":1800000600,"a":{"b":1,"b":2}})", "twice"},
           Case{R"([])", "no JSON object"},
           Case{R"({"iss":"i")", "no JSON object"},
           Case{"", "no JSON object"},
       }) {
    CAPTURE(c.claims);
    CHECK(s.outcome(s.ec.token(c.claims)).contains(c.words));
  }
  CHECK(
      s.outcome(s.rsa.sign(R"({"alg":"none","alg":"RS256","kid":"r1"})", kGood)).contains("twice"));
  CHECK(s.outcome(s.rsa.sign(R"("RS256")", kGood)).contains("no JSON object"));
  CHECK(s.outcome(s.ec.token(std::string(3000, '['))).contains("no JSON object"));
}
