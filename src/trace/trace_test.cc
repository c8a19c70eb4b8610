#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/testing/fake_clock.h"
#include "trace/otlp.h"
#include "trace/span.h"
#include "trace/span_exporter.h"
#include "trace/trace_context.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

constexpr std::string_view kParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

SystemRng& rng() {
  static SystemRng kernel;
  return kernel;
}

// A collector that says what a test wants it to say.
struct CollectorFixture {
  FakeClock clock;
  Loop loop{clock};
  SpanExporter::Taken says = SpanExporter::Taken::Yes;
  std::vector<std::string> got{};
  SpanExporter exporter{
      loop, {.version = "1", .instance = "here"}, [this](const std::string& text) {
        got.push_back(text);
        return says;
      }};

  static std::vector<Span> spans(std::size_t count) {
    return std::vector<Span>(count, Span{.name = "run"});
  }
  // What a thread of the exporter does takes no virtual time.
  void pass(Duration time) {
    clock.advance(time);
    loop.poll();
    while (exporter.busy()) loop.poll();
  }
};

std::size_t spans_in(const std::string& text) {
  const auto json = nlohmann::json::parse(text);
  return json["resourceSpans"][0]["scopeSpans"][0]["spans"].size();
}

}  // namespace

TEST_CASE("traceparent is read as the recommendation says, and malformed ones are none") {
  const auto context = parse_traceparent(kParent);
  REQUIRE(context.has_value());
  CHECK(hex(context->trace) == "4bf92f3577b34da6a3ce929d0e0e4736");
  CHECK(hex(context->span) == "00f067aa0ba902b7");
  CHECK(context->sampled);
  CHECK(to_traceparent(*context) == kParent);
  CHECK_FALSE(
      parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")->sampled);
  // Of a later version, what is known of it.
  CHECK(parse_traceparent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more"));
  for (const char* bad : {
           "",
           "00",
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
           "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
           "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
           "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
           "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
           "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
           "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
           "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
       })
    CHECK_MESSAGE(!parse_traceparent(bad).has_value(), bad);
}

TEST_CASE("a ratio of new traces is recorded, by bits that every node sees alike") {
  std::size_t taken = 0;
  for (int i = 0; i < 2000; ++i) {
    const TraceId id = make_trace_id(rng());
    CHECK_FALSE(samples(id, 0));
    CHECK(samples(id, 1));
    const bool once = samples(id, 0.5);
    CHECK(samples(id, 0.5) == once);
    taken += once ? 1 : 0;
  }
  CHECK(taken > 800);
  CHECK(taken < 1200);
}

TEST_CASE("a prediction is its caller's child, and what it waited for are its own") {
  const auto parent = parse_traceparent(kParent).value();
  const TracedPrediction prediction{
      .context = {.trace = parent.trace, .span = make_span_id(rng()), .sampled = true},
      .parent = parent.span,
      .function = "fraud",
      .version = 3,
      .invocation = "id",
      .tier = "template",
      .project = "default",
      .accepted = WallTime(1000ms),
      .ended = WallTime(1010ms),
      .decoding = 1ms,
      .timing = {.queue = 2ms, .start = {}, .run = 4ms}};
  const std::vector<Span> spans = spans_of(prediction, rng());
  REQUIRE(spans.size() == 3);  // it was hot: nothing was started
  CHECK(spans[0].parent == parent.span);
  CHECK(spans[1].name == "queue");
  CHECK(spans[1].parent == prediction.context.span);
  CHECK(spans[1].begin == WallTime(1001ms));
  CHECK(spans[2].name == "run");
  CHECK(spans[2].begin == WallTime(1003ms));
  CHECK(spans[2].end == WallTime(1007ms));
  CHECK(spans[1].id != spans[2].id);
  CHECK(spans_of({.context = prediction.context, .error = "bad_request"}, rng()).size() == 1);
}

TEST_CASE("OTLP: ids in hexadecimal, times and numbers as text, errors as a status") {
  const auto parent = parse_traceparent(kParent).value();
  const Span span{.trace = parent.trace,
                  .id = parent.span,
                  .name = "predict \xff",
                  .kind = Span::Kind::Server,
                  .begin = WallTime(1500ms),
                  .end = WallTime(1501ms),
                  .attributes = {{"mayfly.version", std::int64_t{3}}, {"mayfly.start", "hot"}},
                  .error = "queue_full"};
  const auto json = nlohmann::json::parse(encode_otlp({.version = "1", .instance = "n"}, {{span}}));
  const auto& resource = json["resourceSpans"][0];
  CHECK(resource["resource"]["attributes"][0]["key"] == "service.name");
  CHECK(resource["resource"]["attributes"][0]["value"]["stringValue"] == "mayfly");
  const auto& got = resource["scopeSpans"][0]["spans"][0];
  CHECK(got["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736");
  CHECK(got["kind"] == 2);
  CHECK(got["startTimeUnixNano"] == "1500000000");
  CHECK(got["attributes"][0]["value"]["intValue"] == "3");
  CHECK(got["status"]["code"] == 2);
  CHECK(got["status"]["message"] == "queue_full");
  CHECK_FALSE(got.contains("parentSpanId"));
}

TEST_CASE("spans go together after a while, or at once when they are many") {
  CollectorFixture f;
  f.exporter.offer(f.spans(3));
  f.exporter.offer(f.spans(2));
  f.pass(SpanExporter::kLongestWait - 1ms);
  CHECK(f.got.empty());
  f.pass(1ms);
  REQUIRE(f.got.size() == 1);
  CHECK(spans_in(f.got[0]) == 5);
  f.exporter.offer(f.spans(SpanExporter::kBatch + 7));
  f.pass(0ms);
  REQUIRE(f.got.size() == 2);
  CHECK(spans_in(f.got[1]) == SpanExporter::kBatch);
  f.pass(SpanExporter::kLongestWait);
  REQUIRE(f.got.size() == 3);
  CHECK(spans_in(f.got[2]) == 7);
  CHECK(f.exporter.counts().sent == SpanExporter::kBatch + 12);
  f.loop.run(f.exporter.close());
}

TEST_CASE("what a collector cannot take now is sent again, what it refuses is dropped") {
  CollectorFixture f;
  f.says = SpanExporter::Taken::Later;
  f.exporter.offer(f.spans(1));
  f.pass(SpanExporter::kLongestWait);
  f.exporter.offer(f.spans(1));
  f.pass(SpanExporter::kRetry);
  REQUIRE(f.got.size() == 2);
  CHECK(spans_in(f.got[1]) == 2);
  f.says = SpanExporter::Taken::Never;
  f.pass(SpanExporter::kRetry);
  CHECK(f.exporter.counts().dropped == 2);
  f.loop.run(f.exporter.close());
  CHECK(f.got.size() == 3);
}

TEST_CASE("while a collector is away no more than so many spans wait") {
  CollectorFixture f;
  f.says = SpanExporter::Taken::Later;
  f.exporter.offer(f.spans(SpanExporter::kMostSpans));
  f.exporter.offer(f.spans(3));
  CHECK(f.exporter.counts().dropped == 3);
  f.pass(0ms);
  f.says = SpanExporter::Taken::Yes;
  f.loop.run(f.exporter.close());
  CHECK(f.exporter.counts().sent == SpanExporter::kMostSpans);
  f.exporter.offer(f.spans(1));
  CHECK(f.exporter.counts().dropped == 4);
}

TEST_CASE("a collector's address is http or https") {
  CHECK(send_to_collector("http://127.0.0.1:4318").has_value());
  for (const char* bad : {"", "collector", "unix:/run/otel.sock", "ftp://x"})
    CHECK_MESSAGE(!send_to_collector(bad).has_value(), bad);
}
