#include "identity/scope.h"

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("a scope allows its verb on what its pattern names, and nothing else") {
  const Scopes scopes = Scopes::parse("invoke:fraud,deploy:team-*,metrics").value();
  struct Case {
    Verb verb;
    const char* function;
    bool allowed;
  };
  for (const Case& c : {Case{Verb::Invoke, "fraud", true}, Case{Verb::Invoke, "fraud2", false},
                        Case{Verb::Invoke, "frau", false}, Case{Verb::Invoke, "", false},
                        Case{Verb::Read, "fraud", false}, Case{Verb::Deploy, "team-a", true},
                        Case{Verb::Deploy, "team", false}, Case{Verb::Deploy, "fraud", false},
                        Case{Verb::Metrics, "", true}, Case{Verb::Admin, "fraud", false}}) {
    CAPTURE(c.function);
    CAPTURE(to_string(c.verb));
    CHECK(scopes.allow(c.verb, c.function) == c.allowed);
  }
  CHECK(scopes.allow_any(Verb::Deploy));
  CHECK_FALSE(scopes.allow_any(Verb::Configure));
}

TEST_CASE("scopes are read strictly and written so that they read back") {
  CHECK(Scopes::parse("metrics,invoke:f,metrics:*")->str() == "metrics:*,invoke:f");
  CHECK(Scopes::parse(Scopes::all().str()) == Scopes::all());
  for (const char* bad :
       {"", ",", "invoke,", "invoke:", "invoke: f", "Invoke:f", "run:f", "*", "invoke:a*b",
        "invoke:**", "invoke:team/f", "invoke:team/*", "invoke:f@3", "invoke:f:g", "invoke;read",
        "admin:fraud", "admin:f*", "metrics:x", "secrets:f"}) {
    const auto refused = Scopes::parse(bad);
    REQUIRE_MESSAGE(!refused.has_value(), bad);
    CHECK(refused.error().reason == reason::kInvalidSetting);
  }
}
