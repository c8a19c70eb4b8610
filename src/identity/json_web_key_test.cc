#include "identity/json_web_key.h"

#include <fmt/format.h>

#include "core/reason.h"
#include "identity/testing/test_issuer.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

KeySet set_of(const std::string& keys) {
  return KeySet::parse(fmt::format(R"({{"keys":[{}]}})", keys)).value();
}

}  // namespace

TEST_CASE("keys are taken for the one algorithm that their kind has here") {
  const TestIssuer rsa("RS256", "r");
  const TestIssuer ec("ES256", "e");
  const KeySet keys = set_of(rsa.jwk(R"(,"use":"sig","alg":"RS256","x5t":"x")") + "," +
                             ec.jwk(R"(,"key_ops":["verify"])"));
  REQUIRE(keys.size() == 2);
  CHECK(keys.left_out().empty());
  CHECK(keys.find("r")->algorithm() == "RS256");
  CHECK(keys.find("e")->algorithm() == "ES256");
  CHECK(keys.find("x") == nullptr);
}

TEST_CASE("keys of other kinds and purposes are passed over") {
  const TestIssuer rsa("RS256", "r");
  const TestIssuer ec("ES256", "e");
  for (const std::string& other :
       {rsa.jwk(R"(,"use":"enc")"), rsa.jwk(R"(,"alg":"PS256")"), rsa.jwk(R"(,"alg":"RS512")"),
        rsa.jwk(R"(,"alg":7)"), ec.jwk(R"(,"alg":"RS256")"), ec.jwk(R"(,"key_ops":["sign"])"),
        std::string(R"({"kty":"oct","k":"AAAA","kid":"h","alg":"HS256"})"),
        std::string(R"({"kty":"OKP","crv":"Ed25519","x":"AA","kid":"o"})"),
        std::string(R"({"kty":"EC","crv":"P-384","x":"AA","y":"AA","kid":"p"})"), std::string("7"),
        std::string("{}")}) {
    CAPTURE(other);
    const KeySet keys = set_of(other);
    CHECK(keys.size() == 0);
    CHECK(keys.left_out().empty());
  }
}

TEST_CASE("weak and malformed keys are left out, and it is said why") {
  const TestIssuer weak("RS256", "w", 1024);
  const TestIssuer ec("ES256", "e");
  const TestIssuer twin("ES256", "e");
  const std::string zeros = base64url_of(std::string(32, '\0'));
  struct Case {
    std::string keys;
    const char* words;
    std::size_t good;
  };
  for (const Case& c :
       {Case{weak.jwk(), "2048", 0},
        Case{fmt::format(R"({{"kty":"EC","crv":"P-256","x":"{0}","y":"{0}","kid":"z"}})", zeros),
             "no public key", 0},
        Case{R"({"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"z"})", "32 bytes", 0},
        Case{R"({"kty":"EC","crv":"P-256","x":"A=","y":"AA","kid":"z"})", "base64url", 0},
        Case{R"({"kty":"RSA","n":"AQAB","kid":"z"})", "'e' is missing", 0},
        Case{TestIssuer("ES256", "").jwk(), "no 'kid'", 0},
        Case{ec.jwk() + "," + twin.jwk(), "stands twice", 1}}) {
    const KeySet keys = set_of(c.keys);
    CHECK(keys.size() == c.good);
    REQUIRE(keys.left_out().size() == 1);
    CHECK(keys.left_out().front().contains(c.words));
  }
}

TEST_CASE("what is no set of keys is refused") {
  for (const std::string& bad : {std::string(), std::string("[]"), std::string("{}"),
                                 std::string(R"({"keys":{}})"), std::string(R"({"keys":7})"),
                                 std::string(KeySet::kMaxText + 1, ' '), std::string(500, '[')}) {
    CHECK_FALSE(KeySet::parse(bad).has_value());
  }
  std::string many = "{}";
  for (int i = 0; i < 100; ++i) many += ",{}";
  CHECK_FALSE(KeySet::parse(fmt::format(R"({{"keys":[{}]}})", many)).has_value());
}
