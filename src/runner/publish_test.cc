// The pipeline on real models, without a jail: what is published, and what is refused with which
// words. The models are made by `make models` (build/models); without them there is nothing to
// test.
#include "runner/publish.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <variant>

#include "base/log.h"
#include "runner/onnx_session.h"
#include "runner/publish_child.h"
#include "runner/publish_sniff.h"
#include "runner/publish_trial.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

Path models() {
  if (const char* given = std::getenv("MAYFLY_MODELS")) return given;
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "../../models";
}

const OnnxRuntime& runtime() {
  static const auto opened =
      OnnxRuntime::open(std::filesystem::read_symlink("/proc/self/exe").parent_path());
  REQUIRE(opened.has_value());
  return *opened;
}

bool exists(const std::string& model) {
  if (std::filesystem::is_directory(models() / model)) return true;
  MESSAGE("no model '", model, "': run `make models`");
  return false;
}

struct Attempt {
  TempDir work = *TempDir::create();
  PublishOutcome outcome;
};

Attempt publish(const std::string& model, PublishJob job = {}) {
  Attempt attempt;
  job.timeout = 20s;
  auto outcome = publish_model(runtime(), job, models() / model, attempt.work.path(),
                               [](std::string_view, std::string_view) {});
  REQUIRE_MESSAGE(outcome.has_value(), (outcome ? "" : outcome.error().message));
  attempt.outcome = *std::move(outcome);
  return attempt;
}

std::string refusal(const PublishOutcome& outcome) {
  const auto* refused = std::get_if<Refusal>(&outcome);
  return refused == nullptr ? "it was published"
                            : fmt::format("{}: {}", refused->reason, refused->message);
}

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

TEST_CASE("what is no model that can be served is refused by name, with the mend") {
  const std::pair<const char*, const char*> cases[] = {
      {"sequence_output", "output 'parts' is a sequence"},
      {"sequence_input", "input 'parts' is a sequence"},
      {"optional_input", "input 'maybe' is an optional"},
      {"optional_output", "output 'maybe' is an optional"},
      {"map_input", "input 'row' is a map"},
      {"custom_op", "'Frobnicate' of domain 'com.example'"},
      {"unknown_op", "Frobnicate"},
      {"cycle", "cycle, among the nodes a (Add), b (Add)"},
      {"undefined_input", "reads 'nowhere', which nothing produces"},
      {"no_outputs", "no outputs"},
      {"type_mismatch", "Add"},
      {"opset_too_new", "999"},
      {"external_escape", "'../../../../../../../../etc/passwd' lies outside"},
      {"external_absolute", "'/etc/passwd' lies outside"},
      {"external_symlink", "symbolic link"},
      {"external_missing", "'weights.bin' is not among the deployed files"},
      {"external_short", "has 8 bytes, but bytes 0 to 16 are needed"},
      {"empty", "is empty"},
      {"truncated", "truncated"},
      {"garbage", "no whole ONNX model"},
      {"sklearn_pickle", "skl2onnx"},
      {"pytorch_zip", "torch.onnx.export"},
      {"keras_h5", "tf2onnx"},
      {"no_model", "not an ONNX model"},
  };
  for (const auto& [model, words] : cases) {
    if (!exists(model)) return;
    const std::string said = refusal(publish(model).outcome);
    CAPTURE(model);
    CAPTURE(said);
    CHECK(said.starts_with("invalid_model: "));
    CHECK(said.find(words) != std::string::npos);
  }
}

#ifdef __x86_64__
TEST_CASE("a model that crashes costs only its own publish") {
  if (!exists("crash_on_load")) return;
  CHECK(refusal(publish("crash_on_load").outcome) ==
        "publish_failed: trying the model: crashed (SIGFPE)");
}
#endif

TEST_CASE("a published folder loads as a template loads it, and answers its warm-up") {
  for (const char* model : {"logistic", "logistic_zipmap", "iris", "adder", "string_upper",
                            "identity_bf16", "identity_fp16", "multi_rank", "random_normal"}) {
    if (!exists(model)) return;
    CAPTURE(model);
    const Attempt attempt = publish(model);
    CAPTURE(refusal(attempt.outcome));
    REQUIRE(std::holds_alternative<Report>(attempt.outcome));
    const auto& report = std::get<Report>(attempt.outcome);
    CHECK(report.trial.accepted);
    CHECK(report.optimisation == Optimise::All);
    CHECK(report.candidates.size() == 4);
    CHECK(parse_outcome(to_json(attempt.outcome)) == attempt.outcome);
    const auto session = OnnxSession::load(runtime(), attempt.work.path() / "out", 1);
    REQUIRE(session.has_value());
    CHECK(session->signature() == report.signature);
    CHECK_FALSE(std::filesystem::exists(attempt.work.path() / "scratch"));
  }
}

TEST_CASE("a ZipMap at the end gives way to its tensor under the output's name") {
  if (!exists("logistic_zipmap")) return;
  const Attempt attempt = publish("logistic_zipmap");
  const auto& report = std::get<Report>(attempt.outcome);
  REQUIRE(report.signature.outputs.size() == 2);
  CHECK(report.signature.outputs[1] == TensorSpec{"probabilities", DataType::Fp32, {-1, 2}});
  REQUIRE(report.notes.size() == 1);
  CHECK(report.notes[0].find("columns are: 0, 1") != std::string::npos);
}

TEST_CASE("unseeded random operators put the session after the fork") {
  if (!exists("random_normal")) return;
  CHECK(std::get<Report>(publish("random_normal").outcome).session_after_fork);
  CHECK_FALSE(std::get<Report>(publish("adder").outcome).session_after_fork);
}

TEST_CASE("a child that crashes, hangs or throws is a value to its parent") {
  const ChildLimits limits{20s, 20s};
  const auto lines = run_in_child(limits, [](const ChildSay& say) -> Status {
    say("one");
    say("two\nlines");
    return {};
  });
  REQUIRE(lines.has_value());
  CHECK(*lines == std::vector<std::string>{"one", "two lines"});
  CHECK(run_in_child(limits, [](const ChildSay&) -> Status { __builtin_trap(); })
            .error()
            .message.starts_with("crashed (SIG"));
  CHECK(run_in_child(limits, [](const ChildSay&) -> Status { throw std::bad_alloc(); })
            .error()
            .message.find("out of memory") != std::string::npos);
  const auto refused = run_in_child(limits, [](const ChildSay&) -> Status {
    return fail(Code::InvalidArgument, "a\tb", "invalid_model");
  });
  CHECK(refused.error().reason == "invalid_model");
  CHECK(refused.error().message == "a\tb");
}

TEST_CASE("other formats are told from their first bytes") {
  CHECK(check_is_onnx("m", bytes(std::string_view("\x08\x08\x12\x04", 4)), 4).has_value());
  const std::pair<std::string_view, const char*> cases[] = {
      {"PK\x03\x04xxxx", "torch.onnx.export"},
      {"\x80\x04\x95", "skl2onnx"},
      {std::string_view("\x18\0\0\0ORTM", 8), "ONNX file it was made from"},
      {std::string_view("\x1c\0\0\0TFL3", 8), "--tflite"},
      {"tree\nversion=v3", "convert_lightgbm"},
      {"{\"learner\":{}}", "convert_xgboost"},
      {"<html>", "HTML"},
  };
  for (const auto& [head, words] : cases) {
    const auto checked = check_is_onnx("model", bytes(head), head.size());
    REQUIRE_FALSE(checked.has_value());
    CAPTURE(checked.error().message);
    CHECK(checked.error().message.find(words) != std::string::npos);
  }
}

TEST_CASE("an example is read in either form, and what does not fit is named") {
  const Signature signature{
      {{"x", DataType::Fp32, {-1, 2}}, {"n", DataType::Uint8, {-1}}, {"s", DataType::Bytes, {1}}},
      {}};
  const auto plain = parse_example(R"({"x": [1, 2.5], "n": 3, "s": ["é"]})", signature);
  const auto v2 = parse_example(
      R"({"inputs":[{"name":"s","datatype":"BYTES","shape":[1],"data":["é"]},
          {"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2.5]},{"name":"n","shape":[1],"data":[3]}]})",
      signature);
  REQUIRE(plain.has_value());
  REQUIRE(v2.has_value());
  CHECK(*plain == *v2);
  const auto decoded = decode_tensors(encode(*plain));
  REQUIRE(decoded.has_value());
  CHECK(*decoded == *plain);
  for (const char* bad : {R"({"x":[[1,2]],"n":[256],"s":["a"]})", R"({"x":[[1,2]],"n":[1]})",
                          R"({"x":[[1,2],[3]],"n":[1],"s":["a"]})", R"({"y":1})", "[", "[]",
                          R"({"x":[["a","b"]],"n":[1],"s":["a"]})"}) {
    CAPTURE(bad);
    const auto parsed = parse_example(bad, signature);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().reason == "invalid_input");
  }
}

TEST_CASE("answers agree within the tolerance of their type and never beyond") {
  const Signature signature{{}, {{"y", DataType::Fp32, {-1}}}};
  const auto tensor = [](std::vector<float> values) {
    TrialTensor made{0, DataType::Fp32, {static_cast<std::int64_t>(values.size())}, {}};
    const auto raw = std::as_bytes(std::span(values));
    made.bytes.assign(raw.begin(), raw.end());
    return TrialTensors{made};
  };
  CHECK(agree(tensor({1.0F, 100.0F}), tensor({1.0001F, 100.05F}), signature).has_value());
  CHECK_FALSE(agree(tensor({1.0F}), tensor({1.01F}), signature).has_value());
  CHECK_FALSE(agree(tensor({1.0F}), tensor({1.0F, 1.0F}), signature).has_value());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(agree(tensor({nan}), tensor({nan}), signature).has_value());
  CHECK_FALSE(agree(tensor({nan}), tensor({1.0F}), signature).has_value());
  CHECK_FALSE(agree(tensor({1.0F}), tensor({nan}), signature).has_value());
}
