#include "core/function_options.h"

#include "core/manifest.h"
#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

std::string refusal(std::string_view json) {
  const auto parsed = parse_version_options(json);
  REQUIRE(!parsed.has_value());
  CHECK(parsed.error().reason == reason::kInvalidManifest);
  return parsed.error().message;
}

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

TEST_CASE("a function's options go through their JSON unchanged") {
  const auto options = parse_version_options(
      R"({"runtime": "python", "handler": "score.py", "env": {"MODE": "fast", "_x1": ""},
          "build": true, "debian": ["python3-scipy", "libc++1=1:14.0-1+b~x"],
          "parameters": {"threshold": 0.5, "labels": ["a", null]},
          "inputs": {"x": "FP32[-1,30]", "s": "BYTES[]"}, "outputs": {"y": "INT64[ -1 ]"}})");
  REQUIRE_MESSAGE(options.has_value(), options.error().message);
  CHECK(options->function.handler == "score.py");
  CHECK(options->function.types.inputs ==
        std::vector<TensorSpec>{{"x", DataType::Fp32, {-1, 30}}, {"s", DataType::Bytes, {}}});
  CHECK(options->function.types.outputs == std::vector<TensorSpec>{{"y", DataType::Int64, {-1}}});
  const auto again = parse_function_options(to_json(options->function));
  REQUIRE_MESSAGE(again.has_value(), again.error().message);
  CHECK(*again == options->function);
}

TEST_CASE("a model's options know nothing of functions, and a function has no model") {
  CHECK(has(refusal(R"({"handler": "a.py"})"), "handler"));
  CHECK(has(refusal(R"({"runtime": "python", "model": "m.onnx"})"), "model"));
  CHECK(has(refusal(R"({"runtime": "ruby"})"), "runtime"));
}

TEST_CASE("the functions that one calls are names, each once, and no model has any") {
  const auto options = parse_version_options(R"({"runtime": "python", "calls": ["scale", "a"]})");
  REQUIRE_MESSAGE(options.has_value(), options.error().message);
  CHECK(options->function.calls == std::vector<std::string>{"a", "scale"});
  CHECK(*parse_function_options(to_json(options->function)) == options->function);
  CHECK(has(refusal(R"({"calls": ["a"]})"), "no code that could call"));
  const auto with = [](std::string_view rest) {
    return refusal(std::string(R"({"runtime": "python", )") + std::string(rest) + "}");
  };
  CHECK(has(with(R"("calls": "a")"), "must be a list"));
  CHECK(has(with(R"("calls": [1])"), "names of functions"));
  CHECK(has(with(R"("calls": ["team/a"])"), "team/a"));
  CHECK(has(with(R"("calls": ["a@2"])"), "a@2"));
  CHECK(has(with(R"("calls": ["a", "a"])"), "twice"));
  CHECK(has(with(R"("calls": ["a"], "max_batch": 8)"), "max_batch"));
}

TEST_CASE("what cannot be is refused by name") {
  const auto with = [](std::string_view rest) {
    return refusal(std::string(R"({"runtime": "python", )") + std::string(rest) + "}");
  };
  CHECK(has(with(R"("handler": "../up.py")"), "handler"));
  CHECK(has(with(R"("egress": {"allow": ["*"]})"), "'egress' is not supported"));
  CHECK(has(with(R"("network": true)"), "'network' is not supported"));
  CHECK(has(with(R"("handler": "score.sh")"), "handler"));
  CHECK(has(with(R"("env": {"LD_PRELOAD": "x"})"), "LD_*"));
  CHECK(has(with(R"("env": {"PYTHONPATH": "x"})"), "PYTHON*"));
  CHECK(has(with(R"("env": {"1A": "x"})"), "'1A'"));
  CHECK(has(with(R"("env": {"A": 1})"), "'A' must be a text"));
  CHECK(has(with(R"("parameters": [1])"), "parameters"));
  CHECK(has(with(R"("build": "yes")"), "build"));
  CHECK(has(with(R"("debian": "python3-scipy")"), "must be a list"));
  for (const char* package : {"a", "-o=Dir::Etc=/x", "Python3-X", "a b", "x/y",
                              "python3-x=", "python3-x=1 2", "python3-x=-1", "../x"}) {
    CAPTURE(package);
    CHECK(has(with(fmt::format(R"("debian": ["{}"])", package)), "must be a package's name"));
  }
  for (const char* type : {"FP33[1]", "FP32", "FP32[", "FP32[-2]", "FP32[1,]", "FP32[a]", "BF16[1]",
                           "FP32[99999999999999999999]"}) {
    CAPTURE(type);
    CHECK(has(with(fmt::format(R"("inputs": {{"x": "{}"}}, "outputs": {{"y": "FP32[1]"}})", type)),
              "'x' must be a datatype"));
  }
  CHECK(has(with(R"("inputs": {"x": "FP32[1]"})"), "both, or neither"));
  CHECK(has(with(R"("env": {"A": ")" + std::string(20'000, 'x') + R"("})"), "bytes"));
}

TEST_CASE("a manifest keeps what a function was deployed with") {
  Manifest manifest;
  manifest.options.runtime = "python";
  manifest.options.function.env = {{"A", "1"}};
  manifest.files = {{"function.py", std::string(64, 'a'), 3}};
  manifest.signature = document_signature();
  manifest.documents = true;
  manifest.environment = {.digest = std::string(64, 'b'), .lock = "six==1.16.0 --hash=sha256:00\n"};
  const auto again = parse_manifest(to_json(manifest));
  REQUIRE_MESSAGE(again.has_value(), again.error().message);
  CHECK(again->documents);
  CHECK(again->environment == manifest.environment);
  CHECK(again->options.function == manifest.options.function);
  // A model's manifest is what it was before there were functions: its digest must not change.
  Manifest model;
  model.files = {{"model.onnx", std::string(64, 'a'), 3}};
  for (const char* word : {"handler", "documents", "environment", "calls"}) {
    CAPTURE(word);
    CHECK(!has(to_json(model), word));
  }
}
