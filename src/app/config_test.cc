#include "app/config.h"

#include <fmt/format.h>

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

Result<ConfigValues> file_with(std::string_view text) {
  static const TempDir folder = TempDir::create().value();
  const Path path = folder.path() / "mayfly.toml";
  REQUIRE(write_file_durably(path, text).has_value());
  return read_config_file(path);
}

}  // namespace

TEST_CASE("a flag wins over the environment, that over the file, that over the default") {
  const ConfigValues flags = {{"server.listen", "127.0.0.1:1"}};
  const ConfigValues environment = {{"server.listen", "127.0.0.1:2"}, {"sandbox.cpus", "2"}};
  const ConfigValues file = {
      {"server.listen", "127.0.0.1:3"}, {"sandbox.cpus", "3"}, {"limits.max_body", "3MiB"}};
  const auto config = make_config({flags, environment, file});
  REQUIRE(config.has_value());
  CHECK(config->listen == "127.0.0.1:1");
  CHECK(config->cpus == 2);
  CHECK(config->max_body == mib(3));
  CHECK(config->drain_timeout == 30s);
}

TEST_CASE("beside a socket file there is no gRPC unless it is asked for") {
  const ConfigValues file = {{"server.listen", "unix:/run/m/s"}};
  CHECK(make_config({file})->grpc_listen == "off");
  CHECK(make_config({{{"server.grpc_listen", "127.0.0.1:9"}}, file})->grpc_listen == "127.0.0.1:9");
  CHECK(make_config({})->grpc_listen == "127.0.0.1:8081");
}

TEST_CASE("the file's sections, lists and prices are read") {
  const auto values = file_with(R"(
[server]
listen = "127.0.0.1:9"
hosts = ["a.example", "b.example"]
[ledger]
sync = "always"
[prices]
cpu_second = 5
)");
  REQUIRE(values.has_value());
  const auto config = make_config({*values});
  REQUIRE(config.has_value());
  CHECK(config->hosts == std::vector<std::string>{"a.example", "b.example"});
  CHECK(config->ledger_sync == LedgerSync::Always);
  CHECK(config->prices.at("cpu_second") == "5");
}

TEST_CASE("unknown settings, wrong types and values are errors that name file, line and key") {
  const std::pair<const char*, const char*> bad[] = {
      {"[server]\nlisen = \"x\"", ":2: server.lisen"},
      {"listen = \"x\"", "listen"},
      {"[server\n", ":1"},
      {"[server]\nlisten = 1.5", "server.listen"}};
  for (const auto& [text, part] : bad) {
    const auto refused = file_with(text);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().message.find(part) != std::string::npos);
  }
  for (const ConfigValues& values :
       {ConfigValues{{"limits.max_body", "lots"}}, ConfigValues{{"sandbox.cpus", "-1"}},
        ConfigValues{{"ledger.sync", "never"}}, ConfigValues{{"limits.max_header", "1023B"}},
        ConfigValues{{"limits.max_body", "0"}}, ConfigValues{{"limits.max_reply", "0"}},
        ConfigValues{{"limits.max_connections", "0"}}}) {
    const auto refused = make_config({values});
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().message.find(values.begin()->first) != std::string::npos);
  }
}

TEST_CASE("every setting has a flag, a variable and help") {
  for (const ConfigKey& key : config_keys()) {
    CHECK(key.flag.starts_with("--"));
    CHECK(key.environment.starts_with("MAYFLY_"));
    CHECK_FALSE(key.help.empty());
  }
}

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
