// Deploy and logs: replies that grow while something happens, one JSON object a line.
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "async/event.h"
#include "async/timer.h"
#include "base/log.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "gateway/access.h"
#include "gateway/control_api.h"
#include "gateway/guard.h"
#include "gateway/import.h"
#include "serving/measured.h"
#include "serving/traffic_json.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// A quiet stream says something now and then, so that a follower that is gone is noticed.
constexpr Duration kHeartbeat = 15s;

Headers stream_headers(std::string_view cors_origin) {
  Headers headers = {{"Content-Type", "application/x-ndjson"}, {"Cache-Control", "no-store"}};
  allow_origin(headers, cors_origin);
  return headers;
}

std::string line_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json error_json_of(const Error& error, std::string_view project) {
  return {{"error", without_project(project, error.message)},
          {"reason", error.reason},
          {"status", http_status(error)}};
}

// Lines on their way to a client, between what makes them and what sends them.
class LineQueue {
 public:
  explicit LineQueue(Loop& loop) : loop_(loop) {}
  void push(std::string line) {
    lines_.push_back(std::move(line));
    wake_.set();
  }
  void close() {
    closed_ = true;
    wake_.set();
  }
  // nullopt: closed and empty. An empty line now and then while there is nothing to say.
  Task<std::optional<std::string>> next() {
    bool silent = false;
    Timer heartbeat(loop_, [&] {
      silent = true;
      wake_.set();
    });
    heartbeat.arm_in(kHeartbeat);
    while (lines_.empty() && !closed_ && !silent) {
      Future<void> woken(loop_);
      wake_ = woken.promise();
      (void)co_await woken;
    }
    if (lines_.empty() && !closed_) co_return "\n";
    if (lines_.empty()) co_return std::nullopt;
    std::string line = std::move(lines_.front());
    lines_.pop_front();
    co_return line;
  }

 private:
  Loop& loop_;
  std::deque<std::string> lines_;
  bool closed_ = false;
  Promise<void> wake_;
};

Task<void> send_lines(Exchange& exchange, LineQueue& queue, Promise<void> sent) {
  while (const std::optional<std::string> line = co_await queue.next()) {
    if (!co_await exchange.write(*line)) break;
  }
  sent.set();
}

}  // namespace

// What a deploy asks for, checked.
struct ControlApi::Deploying {
  FunctionName function;
  std::vector<ArtifactFile> files;
  VersionOptions options;
  std::uint32_t percent = kWholeTraffic;
  std::optional<rollout::RolloutPlan> rollout;
  std::string origin = "{}";
  bool vouched = true;
  std::optional<VersionTraining> training = std::nullopt;
};

struct ControlApi::DeployBody {
  std::vector<ArtifactFile> files;
  VersionOptions options;
  std::uint32_t percent = kWholeTraffic;        // of the requests, for the new version
  std::optional<rollout::RolloutPlan> rollout;  // it climbs by itself instead
  std::optional<ImportWish> imported;           // it comes from elsewhere
  std::string origin = "{}";
  bool vouched = true;
  std::optional<VersionTraining> training;  // what came with it
};

namespace {

// Of a version, for the history.
std::string reason_of(const std::string& origin, bool vouched) {
  if (origin == "{}") return "deploy";
  return vouched ? "import" : "import of what nobody signed";
}

// Code, where nobody says what runs it.
bool is_function(const std::vector<ArtifactFile>& files) {
  return std::ranges::find(files, FunctionOptions().handler, &ArtifactFile::path) != files.end() &&
         std::ranges::none_of(
             files, [](const ArtifactFile& file) { return file.path.ends_with(".onnx"); });
}

}  // namespace

Result<ControlApi::DeployBody> ControlApi::parse_deploy(const std::string& text) {
  const Json json = TRY(parse_json(text, "body"));
  JsonReader reader(json, "body", reason::kInvalidManifest);
  const Json* files = reader.value("files");
  const Json* options = reader.value("options");
  const Json* rollout = reader.value("rollout");
  const Json* imported = reader.value("imported");
  const bool has_share = reader.value("traffic") != nullptr;
  DeployBody request;
  reader.integer("traffic", request.percent, 0U, kWholeTraffic);
  TRY(reader.finish());
  if (rollout != nullptr) {
    if (has_share) return refuse(reason::kInvalidTraffic, "body: 'traffic' or 'rollout', not both");
    request.rollout = TRY(rollout::parse_plan(rollout->dump()));
    request.percent = 0;
  }
  if (imported != nullptr) request.imported = TRY(parse_import(*imported));
  if (request.imported && request.imported->exported && options != nullptr) {
    return refuse(reason::kInvalidManifest,
                  "body: the options of an exported folder stand in its manifest.json");
  }
  request.files = TRY(parse_artifact_files(files == nullptr ? "null" : files->dump()));
  Json chosen = options == nullptr ? Json::object() : *options;
  if (chosen.is_object() && !chosen.contains("runtime") && is_function(request.files))
    chosen["runtime"] = "python";
  request.options = TRY(parse_version_options(chosen.dump()));
  return request;
}

Status ControlApi::check_uploaded(std::string_view project, const ArtifactFile& file) const {
  const Digest digest = parse_digest(file.sha256).value();
  const bool own = TRY(parts_.owners.has(project, digest));
  const auto blob = TRY(parts_.blobs.find(digest));
  if (!own || !blob) {
    return refuse(reason::kNotFound,
                  fmt::format("'{}': the node does not have {}; upload it to /api/v1/blobs first",
                              file.path, file.sha256));
  }
  if (blob->size == file.size) return {};
  return refuse(reason::kInvalidManifest,
                fmt::format("'{}' has {} bytes, not {}", file.path, blob->size, file.size));
}

// What comes from elsewhere becomes a deploy like any other, if who vouches for it may.
Status ControlApi::take_imported(std::string_view project, DeployBody& request) const {
  if (!request.imported) return {};
  const std::string& signature = request.imported->signature;
  if (!signature.empty() && !TRY(parts_.owners.has(project, parse_digest(signature).value()))) {
    return refuse(reason::kNotFound, "the signature was not uploaded to /api/v1/blobs");
  }
  Import import = TRY(take_import(
      *request.imported, {.project = project, .files = request.files, .options = request.options},
      parts_.blobs, parts_.signing));
  request.files = std::move(import.files);
  request.options = std::move(import.options);
  request.origin = std::move(import.origin);
  request.vouched = import.vouched;
  request.training = std::move(import.training);
  return {};
}

Task<Status> ControlApi::deploy(Exchange& exchange, const Route& route,
                                std::string_view cors_origin, Note note) {
  CO_TRY(const FunctionName function, FunctionName::parse(route.name));
  CO_TRY(const std::string body, co_await read_control_body(exchange));
  CO_TRY(DeployBody request, parse_deploy(body));
  CO_TRY_STATUS(check_canary(function, request.percent));
  if (request.rollout) {
    CO_TRY_STATUS(check_rollout(function));
  }
  std::vector<Digest> digests;
  for (const ArtifactFile& file : request.files)
    digests.push_back(parse_digest(file.sha256).value());
  Pin pin = parts_.pins.hold(digests);
  const std::string project = route.caller->project;
  CO_TRY_STATUS(co_await parts_.pool.run([&]() -> Status {
    for (const ArtifactFile& file : request.files) TRY(check_uploaded(project, file));
    return take_imported(project, request);
  }));
  CO_TRY_STATUS(check_calls(function, request.options));
  pin.add(parse_digest(artifact_digest(request.files)).value());
  CO_TRY_STATUS(co_await exchange.start(200, stream_headers(cors_origin)));

  const Deploying deploying{function,        std::move(request.files),   std::move(request.options),
                            request.percent, std::move(request.rollout), std::move(request.origin),
                            request.vouched, std::move(request.training)};
  const TimePoint begun = parts_.loop.now();
  const Result<Json> result = co_await publish(deploying, route, exchange);
  parts_.metrics.published(parts_.loop.now() - begun, result.has_value());
  if (result) {
    LOG(info, "version deployed", {"function", function.str()},
        {"version", result->value("version", 0)});
  } else {
    LOG(warn, "deploy refused", {"function", function.str()}, {"error", result.error().message});
  }
  const Status outcome = result ? Status{} : std::unexpected(result.error());
  co_await note(outcome);
  (void)co_await exchange.write(line_of(
      result ? Json{{"result", *result}} : error_json_of(result.error(), route.caller->project)));
  (void)co_await exchange.finish();
  co_return Status{};
}

Task<Result<Json>> ControlApi::publish(const Deploying& deploying, const Route& route,
                                       Exchange& exchange) {
  PublishRequest request{.label = deploying.function.str(),
                         .files = {},
                         .options = deploying.options,
                         .cancel = exchange.disconnected()};
  for (const ArtifactFile& file : deploying.files) {
    request.files.push_back({.file = file, .blobs = &parts_.blobs});
  }
  LineQueue queue(parts_.loop);
  Future<void> sent(parts_.loop);
  parts_.loop.spawn(send_lines(exchange, queue, sent.promise()));
  auto published = co_await parts_.publisher.publish(
      std::move(request), [&](std::string_view step, std::string_view detail) {
        queue.push(
            line_of({{"step", step},
                     {"detail", without_project(route.caller->project, std::string(detail))}}));
      });
  queue.close();
  (void)co_await sent;
  if (!published) co_return std::unexpected(std::move(published).error());

  const Author author{.who = author_of(exchange, route),
                      .why = reason_of(deploying.origin, deploying.vouched)};
  const std::string measured = measured_json(*published);
  Deployment deployment{.function = deploying.function,
                        .manifest = published->manifest,
                        .report = measured,
                        .traffic = {deploying.percent},
                        .provenance = {.signature = {}, .key = {}, .origin = deploying.origin},
                        .vouched = deploying.vouched,
                        .training = deploying.training};
  Json notes =
      co_await notes_on(deploying.function, published->manifest.signature, published->report.notes);
  CO_TRY(const TrafficSwitch::Introduced made,
         co_await parts_.traffic.introduce(std::move(deployment), author));
  // The first version of a function has nothing to be judged against.
  const bool climbs = deploying.rollout && made.function->current != made.number;
  if (climbs) {
    const Status started =
        co_await parts_.rollouts.start(deploying.function, made.number, *deploying.rollout, author);
    if (!started) {
      co_return std::unexpected(Error(started.error())
                                    .in(fmt::format("version {} is published, but its rollout has "
                                                    "not begun",
                                                    made.number.value)));
    }
  }
  co_return Json{{"function", local_name(deploying.function.str())},
                 {"version", made.number.value},
                 {"traffic", weight_of(*made.function, made.number)},
                 {"rollout", climbs},
                 {"measured", Json::parse(measured)},
                 {"notes", std::move(notes)}};
}

// What publishing found, and what it means for clients of the champion.
Task<Json> ControlApi::notes_on(FunctionName name, Signature signature, Json notes) {
  const auto champion = parts_.catalog.resolve(name.str(), "");
  if (!champion) co_return notes;
  const auto serving = co_await parts_.catalog.find(*champion);
  if (serving && (*serving)->signature() != signature) {
    notes.push_back(
        fmt::format("it has other inputs or outputs than version {}, so what clients send or read "
                    "may not fit it",
                    champion->version->number.value));
  }
  co_return notes;
}

Status ControlApi::check_rollout(const FunctionName& function) const {
  const auto known = parts_.catalog.table()->find(function.str());
  return known ? parts_.rollouts.check_free(*known) : Status{};
}

// Said before anything is published.
Status ControlApi::check_canary(const FunctionName& function, std::uint32_t percent) const {
  const auto known = parts_.catalog.table()->find(function.str());
  if (percent == 0 || percent == kWholeTraffic || !known || !known->routing->traffic.split()) {
    return {};
  }
  return refuse(reason::kConflict,
                fmt::format("the traffic of {0} is split already; end that first: mayfly traffic "
                            "{0}, mayfly rollback {0}",
                            function.str()));
}

Task<Status> ControlApi::follow_logs(Exchange& exchange, const Route& route,
                                     std::string_view cors_origin, MayGoOn may_go_on) {
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(route.name, ""));
  const std::string function = resolved.function->name.str();
  const bool follow = exchange.head().query("follow").value_or("") == "true";
  CO_TRY_STATUS(co_await exchange.start(200, stream_headers(cors_origin)));
  std::uint64_t last = 0;
  while (true) {
    std::string lines;
    for (const LogLine& line : parts_.logs.since(function, last)) {
      lines += line_of({{"time", format_time(line.time)},
                        {"source", local_name(line.source)},
                        {"text", line.text}});
      last = line.sequence;
    }
    if (!lines.empty() && !co_await exchange.write(lines)) break;
    if (!follow) break;
    const Status changed =
        co_await parts_.logs.changed(parts_.loop.now() + kHeartbeat, exchange.disconnected());
    if (!changed && changed.error().code == Code::Cancelled) break;
    if (!may_go_on()) break;
    if (!changed && !co_await exchange.write("\n")) break;
  }
  (void)co_await exchange.finish();
  co_return Status{};
}

}  // namespace mayfly
