#include "publish/testing/publishes_all.h"

#include <utility>

#include "base/file.h"
#include "runner/report/report.h"

#include <doctest/doctest.h>

namespace mayfly {

Result<std::unique_ptr<Job>> PublishesAll::run_job(JobSpec spec, JobEvents events) {
  struct Played final : Job {
    void kill() override {}
    void send(std::string_view, Fd) override {}
  };
  ++runs;
  if (fails) return fail(Code::Unavailable, "no jail, as played");
  loop_.post([this, spec = std::move(spec), events = std::move(events)]() mutable {
    Report report;
    report.runtime_version = "1.31.1";
    report.signature.inputs = {{input, DataType::Fp32, {-1}}};
    report.signature.outputs = {{"label", DataType::Int64, {-1}}};
    report.candidates = {Candidate{.warm_run = run}};
    report.files = {{"load.json", 2}, {"model.onnx", 5}};
    REQUIRE(make_directories(spec.work / "out").has_value());
    REQUIRE(write_file_durably(spec.work / "out/load.json", "{}").has_value());
    REQUIRE(write_file_durably(spec.work / "out/model.onnx", "bytes").has_value());
    REQUIRE(
        write_file_durably(spec.work / "report.json", to_json(PublishOutcome(report))).has_value());
    events.on_end({});
  });
  return std::make_unique<Played>();
}

}  // namespace mayfly
