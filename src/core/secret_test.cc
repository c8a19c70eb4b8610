#include "core/secret.h"

#include <string>

#include "core/function_options.h"
#include "core/manifest.h"
#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("a secret's name is a file's name and nothing more") {
  for (const char* name : {"A", "API_KEY", "_x9", "lower"}) CHECK(check_secret_name(name));
  for (const char* name : {"", "9A", "a-b", "a/b", "..", "a.b", "a b", "ü"}) {
    CAPTURE(name);
    const Status checked = check_secret_name(name);
    REQUIRE_FALSE(checked.has_value());
    CHECK(checked.error().reason == reason::kInvalidSetting);
  }
  CHECK(check_secret_name(std::string(kMaxSecretName, 'a')));
  CHECK_FALSE(check_secret_name(std::string(kMaxSecretName + 1, 'a')).has_value());
}

TEST_CASE("a version names the secrets of a function, sorted, each once, and a model has none") {
  const auto parse = [](const std::string& more) {
    return parse_version_options(R"({"runtime":"python",)" + more + "}");
  };
  const auto options = parse(R"("secrets":["B","A"])");
  REQUIRE(options.has_value());
  CHECK(options->function.secrets == std::vector<std::string>{"A", "B"});
  CHECK(parse_function_options(to_json(options->function))->secrets == options->function.secrets);
  CHECK_FALSE(to_json(FunctionOptions{}).contains("secrets"));
  for (const char* wrong : {R"("secrets":"A")", R"("secrets":["A","A"])", R"("secrets":["a/b"])",
                            R"("secrets":[1])", R"("secrets":{"A":"value"})"}) {
    CAPTURE(wrong);
    const auto refused = parse(wrong);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().message.contains("secrets"));
  }
  const auto model = parse_version_options(R"({"secrets":["A"]})");
  REQUIRE_FALSE(model.has_value());
  CHECK(model.error().message.contains("runtime \"python\""));
}
