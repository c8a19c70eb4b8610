#include "core/invocation.h"
#include "core/manifest.h"
#include "core/names.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/settings.h"
#include "core/tensor.h"
#include "core/units.h"

#include <cstring>
#include <set>

#include "base/testing/fake_clock.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE(
    "function names are lower-case, start with a letter or digit and have at most 63 characters") {
  for (const char* good : {"fraud", "0", "a.b_c-d", "iris2"})
    CHECK(FunctionName::parse(good).has_value());
  CHECK(FunctionName::parse(std::string(63, 'a')).has_value());
  for (const char* bad : {"", "Fraud", "-a", ".a", "a b", "ü", "a@1"}) {
    CHECK_FALSE(FunctionName::parse(bad).has_value());
  }
  CHECK_FALSE(FunctionName::parse(std::string(64, 'a')).has_value());
}

TEST_CASE("a function of another project carries it, and the default one has one spelling only") {
  CHECK(qualified_name("team", "fraud") == "team/fraud");
  CHECK(qualified_name("default", "fraud") == "fraud");
  CHECK(project_of("team/fraud") == "team");
  CHECK(project_of("fraud") == "default");
  CHECK(local_name("team/fraud@3") == "fraud@3");
  CHECK(local_name("fraud") == "fraud");
  CHECK(FunctionName::parse("team/fraud")->str() == "team/fraud");
  CHECK(parse_model_ref("team/fraud@3")->function.str() == "team/fraud");
  for (const char* bad : {"/", "a/", "/b", "a/b/c", "A/b", "a/B", "default/b"})
    CHECK_FALSE_MESSAGE(FunctionName::parse(bad).has_value(), bad);
  CHECK(check_project("team").has_value());
  CHECK_FALSE(check_project("team/a").has_value());
}

TEST_CASE("a model reference names a function and perhaps a version") {
  const auto plain = parse_model_ref("fraud");
  REQUIRE(plain.has_value());
  CHECK_FALSE(plain->version.has_value());
  const auto pinned = parse_model_ref("fraud@3");
  REQUIRE(pinned.has_value());
  CHECK(pinned->version->value == 3);
  CHECK_FALSE(pinned->alias.size());
  const auto alias = parse_model_ref("fraud@champion");
  REQUIRE(alias.has_value());
  CHECK(alias->alias == "champion");
  CHECK(alias->names_version());
  for (const char* bad :
       {"fraud@", "fraud@0", "fraud@X", "fraud@-1", "fraud@1@2", "@1", "fraud@99999999999"}) {
    CHECK_FALSE(parse_model_ref(bad).has_value());
  }
}

TEST_CASE("shape products that overflow are refused before anything is allocated") {
  CHECK(element_count(Shape{}).value() == 1);
  CHECK(element_count(Shape{2, 0, 3}).value() == 0);
  CHECK_FALSE(element_count(Shape{-1, 2}).has_value());
  CHECK_FALSE(element_count(Shape{1LL << 62, 4}).has_value());
  CHECK_FALSE(byte_count(DataType::Fp64, Shape{1LL << 61}).has_value());
  CHECK(byte_count(DataType::Fp16, Shape{3, 5}).value() == 30);
}

TEST_CASE("every datatype's name parses back") {
  for (int raw = 1; is_known(static_cast<std::uint8_t>(raw)); ++raw) {
    const auto type = static_cast<DataType>(raw);
    CHECK(parse_data_type(to_string(type)) == type);
  }
  CHECK_FALSE(parse_data_type("FP8").has_value());
}

TEST_CASE(
    "invocation ids are unique, ordered and survive a clock that stands still or steps back") {
  FakeClock clock;
  SystemRng rng;
  InvocationIds ids(clock, rng);
  InvocationId last;
  for (int i = 0; i < 10'000; ++i) {
    if (i == 5'000) clock.advance(-1h);
    const InvocationId id = ids.next();
    REQUIRE(last < id);
    last = id;
  }
  CHECK(to_string(last).size() == 36);
  CHECK(to_string(last)[14] == '7');
  InvocationId known;
  for (std::size_t i = 0; i < known.bytes.size(); ++i)
    known.bytes[i] = static_cast<std::byte>(i * 17);
  CHECK(to_string(known) == "00112233-4455-6677-8899-aabbccddeeff");
}

TEST_CASE("durations and sizes parse with units and print in their shortest exact form") {
  CHECK(parse_duration("90s").value() == 90s);
  CHECK(to_string(Duration(90s)) == "90s");
  CHECK(to_string(Duration(120s)) == "2m");
  CHECK(parse_bytes("2GiB").value() == gib(2));
  CHECK(to_string(Bytes{1500}) == "1500B");
  for (const char* bad : {"", "5", "-1s", "1.5s", "s", "1 s", "99999999999999h"}) {
    CHECK_FALSE(parse_duration(bad).has_value());
  }
}

TEST_CASE("version options refuse unknown keys, wrong types and values out of range, naming them") {
  const auto options =
      parse_version_options(R"({"threads":2,"memory":"1GiB","isolation":"request"})");
  REQUIRE(options.has_value());
  CHECK(options->threads == 2);
  CHECK(options->isolation == Isolation::Request);
  const std::pair<const char*, const char*> bad[] = {
      {R"({"thread":2})", "thread"},           {R"({"threads":0})", "threads"},
      {R"({"threads":"2"})", "threads"},       {R"({"memory":"1"})", "memory"},
      {R"({"runtime":"torch"})", "runtime"},   {R"({"model":"../m.onnx"})", "model"},
      {R"({"isolation":"none"})", "isolation"}};
  for (const auto& [json, key] : bad) {
    const auto refused = parse_version_options(json);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().reason == reason::kInvalidManifest);
    CHECK(refused.error().message.find(key) != std::string::npos);
  }
}

TEST_CASE("a manifest survives its own JSON and stays canonical") {
  Manifest manifest;
  manifest.options.threads = 3;
  manifest.files = {{"model.onnx", std::string(64, 'a'), 12},
                    {"w/weights.bin", std::string(64, 'b'), 1}};
  manifest.signature.inputs = {{"x", DataType::Fp32, {-1, 30}}};
  manifest.signature.outputs = {{"y", DataType::Bytes, {-1}}};
  manifest.session_after_fork = true;
  const std::string json = to_json(manifest);
  const auto parsed = parse_manifest(json);
  REQUIRE(parsed.has_value());
  CHECK(to_json(*parsed) == json);
  CHECK(parsed->signature == manifest.signature);
  CHECK(artifact_digest(parsed->files) == artifact_digest(manifest.files));
  CHECK_FALSE(parse_manifest("{}").has_value());
  CHECK_FALSE(parse_manifest(std::string(100, '[')).has_value());
}

TEST_CASE("what a trained version must show is a setting like any other") {
  const auto changes = settings_changes_json(
      {R"(gate={"require":"not_worse","margin":0.01,"slices":["sex"],"max_size":"2MiB"})",
       R"(rollout={"steps":[10,100]})"});
  const auto applied = apply_settings({}, *changes);
  REQUIRE(applied.has_value());
  CHECK(applied->gate.require == GateRequire::NotWorse);
  CHECK(applied->gate.margin == 0.01);
  CHECK(applied->gate.min_rows == 100);
  CHECK(applied->gate.slices == std::vector<std::string>{"sex"});
  CHECK(applied->gate.max_size == mib(2));
  CHECK(parse_settings(to_json(*applied)).value() == *applied);
  // Given again, it is the whole of it.
  CHECK(apply_settings(*applied, R"({"gate":{}})")->gate == GatePolicy());
  CHECK(apply_settings(*applied, R"({"keep_warm":true})")->gate == applied->gate);
  for (const char* bad :
       {R"({"gate":1})", R"({"gate":{"require":"luck"}})", R"({"gate":{"alpha":0.6}})",
        R"({"gate":{"alpha":"x"}})", R"({"gate":{"min_rows":0}})", R"({"gate":{"slices":"sex"}})",
        R"({"gate":{"slices":[""]}})", R"({"gate":{"margin":1}})", R"({"gate":{"max_run":"-1s"}})",
        R"({"gate":{"nope":1}})", R"({"rollout":[]})"}) {
    CAPTURE(bad);
    CHECK_FALSE(apply_settings({}, bad).has_value());
  }
}

TEST_CASE("settings change key by key and are checked as a whole") {
  const FunctionSettings defaults;
  const auto changes =
      settings_changes_json({"idle_timeout=5s", "max_instances=4", "keep_warm=true"});
  REQUIRE(changes.has_value());
  const auto applied = apply_settings(defaults, *changes);
  REQUIRE(applied.has_value());
  CHECK(applied->idle_timeout == 5s);
  CHECK(applied->max_instances == 4);
  CHECK(applied->keep_warm);
  CHECK(parse_settings(to_json(*applied)).value() == *applied);
  CHECK_FALSE(apply_settings(*applied, R"({"min_instances":5})").has_value());
  CHECK_FALSE(apply_settings(defaults, R"({"idle":"5s"})").has_value());
  CHECK_FALSE(apply_settings(defaults, R"({"max_attempts":0})").has_value());
  CHECK_FALSE(apply_settings(defaults, R"({"result_ttl":"721h"})").has_value());
  CHECK(apply_settings(defaults, R"({"max_age":"1s"})")->max_age == 1s);
  CHECK_FALSE(settings_changes_json({"idle_timeout"}).has_value());
}

TEST_CASE("every reason has an HTTP status of its own class and a meaning") {
  std::set<std::string_view> seen;
  for (const ReasonEntry& entry : reason_catalogue()) {
    CHECK(seen.insert(entry.slug).second);
    CHECK(entry.http_status >= 400);
    CHECK(entry.http_status < 600);
    CHECK_FALSE(entry.meaning.empty());
  }
  CHECK(http_status(refuse(reason::kQueueFull, "").error()) == 429);
  CHECK(http_status(Error{Code::Unavailable, ""}) == 503);
}

TEST_CASE("times print in RFC 3339 and parse back; anything else is refused") {
  const auto time = parse_time("2026-01-31T08:09:10.250Z");
  REQUIRE(time.has_value());
  CHECK(format_time(*time) == "2026-01-31T08:09:10.250Z");
  CHECK(format_time(parse_time("1999-12-31T23:59:59Z").value()) == "1999-12-31T23:59:59.000Z");
  for (const char* bad :
       {"", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31 08:09:10Z",
        "2026-01-31T08:09:10+01:00", "2026-1-31T08:09:10Z00", "2026-01-31T08:09:10,5Z"}) {
    CHECK_FALSE(parse_time(bad).has_value());
  }
}
