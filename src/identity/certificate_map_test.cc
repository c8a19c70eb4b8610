#include "identity/certificate_map.h"

#include <fmt/format.h>

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

Result<CertificateMap> map_of(const std::string& entries) {
  return CertificateMap::parse(R"({"certificates":[)" + entries + "]}");
}

}  // namespace

TEST_CASE("a certificate stands for the first of its names that the mapping has, to the letter") {
  const CertificateMap map =
      map_of(R"({"subject":"URI:spiffe://x/edge","project":"a","scopes":"invoke:*","name":"edge"},
                {"subject":"DNS:edge.example","project":"b","scopes":"read"},
                {"subject":"CN:edge.example","project":"c","scopes":"admin"})")
          .value();
  using Names = std::vector<std::string>;
  const auto project = [&](const char* common_name, const Names& names) {
    const PrincipalRef who = map.find(common_name, names);
    return who ? who->project : std::string("nobody");
  };
  CHECK(project("", {"DNS:edge.example", "URI:spiffe://x/edge"}) == "a");
  CHECK(project("edge.example", {"DNS:edge.example"}) == "b");
  CHECK(project("edge.example", {}) == "c");
  CHECK(project("CN:edge.example", {}) == "nobody");
  CHECK(project("x", {"DNS:Edge.example", "DNS:a.edge.example", "URI:spiffe://x/edge2",
                      "CN:edge.example", "email:edge.example"}) == "nobody");
  CHECK(project("", {}) == "nobody");
  const PrincipalRef edge = map.find("", Names{"URI:spiffe://x/edge"});
  CHECK(edge->means == Principal::Means::Certificate);
  CHECK(edge->name == "edge (certificate)");
  CHECK(edge->scopes.str() == "invoke:*");
  CHECK(map.find("", Names{"DNS:edge.example"})->name == "DNS:edge.example (certificate)");
}

TEST_CASE("a mapping of certificates that is incomplete or unknown is refused") {
  for (const char* bad :
       {"", "7", "{}", R"({"subject":"edge","project":"a","scopes":"read"})",
        R"({"subject":"CN:","project":"a","scopes":"read"})",
        R"({"subject":"CN:x","scopes":"read"})", R"({"subject":"CN:x","project":"a"})",
        R"({"subject":"CN:x","project":"A","scopes":"read"})",
        R"({"subject":"CN:x","project":"a","scopes":"fly"})",
        R"({"subject":"CN:x","project":"a","scopes":"read","y":1})"}) {
    CAPTURE(bad);
    const auto refused = map_of(bad);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().reason == reason::kInvalidSetting);
  }
}
