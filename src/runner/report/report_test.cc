#include "runner/report/report.h"

#include <fmt/format.h>

#include <string>

#include "runner/report/choose.h"
#include "runner/report/publish_job.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

Report sample() {
  Report report;
  report.runtime_version = "1.31.1";
  report.signature.inputs = {{"x", DataType::Fp32, {-1, 30}}};
  report.signature.outputs = {{"label", DataType::Int64, {-1}}, {"p", DataType::Fp32, {-1, 2}}};
  report.trial = {TrialInput::Example, true, "", 24};
  report.candidates = {{ModelForm::Onnx, Prepacking::Off, 2ms, 1ms, 3us, {100}, {2000}, ""},
                       {ModelForm::Ort, Prepacking::On, {}, {}, {}, {}, {}, "no memory for it"}};
  report.notes = {"a note"};
  report.entries = {"predict", "train"};
  report.files = {{"load.json", 10}, {"model.onnx", 20}};
  return report;
}

Candidate measured(ModelForm form, Prepacking prepacking, Duration load, Duration warm,
                   std::uint64_t private_bytes = 0) {
  return {form, prepacking, load, 0ns, warm, {private_bytes}, {}, ""};
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("a report survives the way out of the jail") {
  const PublishOutcome report = sample();
  const auto parsed = parse_outcome(to_json(report));
  REQUIRE(parsed.has_value());
  CHECK(*parsed == report);
  const PublishOutcome refusal = Refusal{"invalid_model", "a cycle"};
  const auto refused = parse_outcome(to_json(refusal));
  REQUIRE(refused.has_value());
  CHECK(*refused == refusal);
}

TEST_CASE("a job's request survives the way into the jail") {
  const PublishJob job{"m.onnx", "e.json", 4, 5s, mib(7), gib(8)};
  const auto parsed = parse_publish_job(to_json(job));
  REQUIRE(parsed.has_value());
  CHECK(*parsed == job);
  CHECK_FALSE(parse_publish_job(R"({"threads":0})").has_value());
}

TEST_CASE("a hostile report is refused with publish_failed") {
  const std::string good = to_json(PublishOutcome(sample()));
  const std::string bad[] = {
      "",
      "[]",
      "{}",
      std::string(kMaxReport + 1, ' '),
      std::string(100, '[') + std::string(100, ']'),
      replaced(good, "\"chosen\":0", "\"chosen\":1"),
      replaced(good, "\"train\"", "\"trains\""),
      replaced(good, "\"chosen\":0", "\"chosen\":9"),
      replaced(good, "\"chosen\":0", "\"chosen\":-1"),
      replaced(good, "load.json", "../load.json"),
      replaced(good, "load.json", "sub/load.json"),
      replaced(good, "load.json", "model.onnx"),
      replaced(good, "[-1,30]", "[-2,30]"),
      replaced(good, "[-1,30]", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"),
      replaced(good, "FP32", "FP31"),
      replaced(good, "\"all\"", "\"more\""),
      replaced(good, "\"format\":1", "\"format\":1,\"surprise\":1"),
      replaced(good, "a note", std::string(9000, 'n')),
      R"({"refused":{"reason":"because","message":"m"}})",
      R"({"refused":{"reason":"invalid_model","message":5}})",
  };
  for (const std::string& text : bad) {
    CAPTURE(text.substr(0, 200));
    const auto parsed = parse_outcome(text);
    REQUIRE_FALSE(parsed.has_value());
  }
}

TEST_CASE("a small model is chosen by what a thousand runs cost with their start") {
  const Candidate candidates[] = {measured(ModelForm::Onnx, Prepacking::Off, 2ms, 18us),
                                  measured(ModelForm::Onnx, Prepacking::On, 3ms, 12us),
                                  measured(ModelForm::Ort, Prepacking::Off, 2ms, 22us)};
  CHECK(choose(candidates, mib(1)) == 1);
}

TEST_CASE("when running is equal, the sooner start wins") {
  const Candidate trees[] = {measured(ModelForm::Onnx, Prepacking::Off, 32ms, 9us),
                             measured(ModelForm::Ort, Prepacking::Off, 27ms, 9us)};
  CHECK(choose(trees, mib(2)) == 1);
}

TEST_CASE("a large model is chosen by its start, unless it then runs slower for ever") {
  const Candidate cnn[] = {measured(ModelForm::Onnx, Prepacking::On, 15ms, 56ms),
                           measured(ModelForm::Onnx, Prepacking::Off, 6ms, 57ms),
                           measured(ModelForm::Ort, Prepacking::Off, 5ms, 63ms)};
  CHECK(choose(cnn, mib(100)) == 1);
}

TEST_CASE("within noise, mapped ONNX and fewer private bytes win") {
  const Candidate equal[] = {measured(ModelForm::Ort, Prepacking::Off, 1000us, 1us, 10),
                             measured(ModelForm::Onnx, Prepacking::On, 1005us, 1us, 900 << 20),
                             measured(ModelForm::Onnx, Prepacking::Off, 1010us, 1us, 20 << 20)};
  CHECK(choose(equal, mib(1)) == 2);
}

TEST_CASE("what was skipped is never chosen") {
  Candidate skipped = measured(ModelForm::Onnx, Prepacking::Off, 0ns, 0ns);
  skipped.skipped = "it crashed";
  const Candidate candidates[] = {skipped, measured(ModelForm::Ort, Prepacking::On, 1s, 1s)};
  CHECK(choose(candidates, mib(1)) == 1);
  CHECK(choose(std::span(candidates, 1), mib(1)) == std::nullopt);
  CHECK(choose({}, gib(1)) == std::nullopt);
}
