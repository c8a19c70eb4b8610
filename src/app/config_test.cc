#include "app/config.h"

#include <fmt/format.h>

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("the defaults that help and guide show are the defaults") {
  ConfigValues shown;
  for (const ConfigKey& key : config_keys()) {
    if (!key.fallback.empty()) shown.emplace(key.key, key.fallback);
  }
  const auto written = make_config({shown});
  const auto silent = make_config({});
  REQUIRE(written.has_value());
  REQUIRE(silent.has_value());
  CHECK(*written == *silent);
}

TEST_CASE("docs/configuration.md has one row for each setting, with flag, variable and default") {
  const auto guide = read_file(Path(MAYFLY_SOURCE_DIR) / "docs/configuration.md");
  REQUIRE(guide.has_value());
  for (const ConfigKey& key : config_keys()) {
    std::string row = fmt::format("| `{}` | `{}` | `{}` |", key.key, key.flag, key.environment);
    if (!key.fallback.empty()) row += fmt::format(" `{}` |", key.fallback);
    CHECK_MESSAGE(guide->find(row) != std::string::npos, "missing: ", row);
  }
}

TEST_CASE("the first source that names a setting wins, and prices too") {
  const ConfigValues flags{{"server.listen", "127.0.0.1:1"}};
  const ConfigValues environment{{"server.listen", "127.0.0.1:2"}, {"sandbox.cpus", "3"}};
  const ConfigValues file{{"sandbox.cpus", "4"}, {"ledger.keep", "1h"}, {"prices.cpu_second", "7"}};
  const auto config = make_config({flags, environment, file});
  REQUIRE(config.has_value());
  CHECK(config->listen == "127.0.0.1:1");
  CHECK(config->cpus == 3);
  CHECK(config->ledger_keep == std::chrono::hours(1));
  CHECK(config->prices.at("cpu_second") == "7");
}

TEST_CASE("a configuration file is strict and says where it is wrong") {
  const auto folder = TempDir::create();
  REQUIRE(folder.has_value());
  const Path path = folder->path() / "mayfly.toml";
  const auto error_of = [&](std::string_view text) {
    REQUIRE(write_file_durably(path, text).has_value());
    const auto values = read_config_file(path);
    return values ? std::string() : values.error().message;
  };
  CHECK(error_of("[server]\nlisten = \"127.0.0.1:1\"\nhosts = [\"a\", \"b\"]\n").empty());
  CHECK(error_of("[server]\nlissen = \"x\"\n").find(":2: server.lissen: unknown") !=
        std::string::npos);
  CHECK(error_of("listen = \"x\"\n").find("must stand in a section") != std::string::npos);
  CHECK(error_of("[server]\nlisten = 1.5\n").find("whole number") != std::string::npos);
  CHECK(error_of("[server\n").find(":1:") != std::string::npos);
  const auto wrong = make_config({{{"limits.max_body", "many"}}});
  REQUIRE_FALSE(wrong.has_value());
  CHECK(wrong.error().message.starts_with("limits.max_body: "));
}
