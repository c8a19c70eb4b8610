#include "gateway/lineage_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/project.h"
#include "core/reason.h"
#include "gateway/access.h"
#include "gateway/control_api.h"
#include "gateway/import.h"
#include "lineage/card.h"
#include "lineage/json_parts.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostOfReason = 1000;

Json tensors_json(const std::vector<TensorSpec>& specs) {
  Json list = Json::array();
  for (const TensorSpec& spec : specs)
    list.push_back(
        {{"name", spec.name}, {"datatype", to_string(spec.type)}, {"shape", spec.shape}});
  return list;
}

// Nothing that it names is fetched, and nothing in it runs, whatever its words are.
Response page_response(std::string page) {
  return {.status = 200,
          .headers = {{"Content-Type", "text/html; charset=utf-8"},
                      {"Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"},
                      {"X-Content-Type-Options", "nosniff"}},
          .body = std::move(page)};
}

}  // namespace

Task<Result<Response>> LineageApi::call(Exchange& exchange, const Route& route) {
  switch (route.endpoint) {
    case Endpoint::InvocationLineage:
      co_return co_await of_invocation(route);
    case Endpoint::SnapshotLineage:
      co_return co_await of_snapshot(route);
    case Endpoint::VersionCard:
      co_return co_await card(exchange, route);
    case Endpoint::RegisterJob:
      co_return co_await add(exchange, route);
    default:
      co_return co_await of_version(route);
  }
}

Task<Result<Response>> LineageApi::of_version(const Route& route) {
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(route.name, route.version));
  const FunctionName name = resolved.function->name;
  const VersionNumber number = resolved.version->number;
  CO_TRY(const Json about,
         co_await parts_.pool.run([&] { return parts_.lineage.of_version(name, number); }));
  co_return json_response(about);
}

// Whose invocation it is says its record: it is shown to those who may see the function.
Task<Result<Response>> LineageApi::of_invocation(const Route& route) {
  CO_TRY(const Json about, co_await parts_.pool.run([&] {
    return parts_.lineage.of_invocation(route.caller->project, route.version);
  }));
  const std::string function = text_at(at(about, "invocation"), "function");
  if (!check_access(*route.caller, Needs::Read, function)) {
    co_return refuse(reason::kNotFound,
                     fmt::format("no invocation '{}' is recorded", route.version.substr(0, 64)));
  }
  co_return json_response(about);
}

Task<Result<Response>> LineageApi::of_snapshot(const Route& route) {
  std::uint32_t number = 0;
  const std::string& text = route.version;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number == 0)
    co_return refuse(reason::kBadRequest, "write the number of a snapshot");
  CO_TRY(const Json about, co_await parts_.pool.run([&] {
    return parts_.lineage.of_snapshot(route.caller->project, local_name(route.name), number);
  }));
  co_return json_response(about);
}

Task<Result<Json>> LineageApi::make_card(const Route& route) {
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(route.name, route.version));
  const FunctionName name = resolved.function->name;
  const VersionNumber number = resolved.version->number;
  const Digest digest = resolved.version->content->manifest;
  CO_TRY(CardParts parts, co_await parts_.pool.run([&]() -> Result<CardParts> {
    CardParts some;
    some.lineage = TRY(parts_.lineage.of_version(name, number));
    if (auto record = TRY(parts_.lineage.record(name, number))) some.record = *std::move(record);
    const auto keys = TRY(parts_.keys.list(project_of(name.str())));
    const std::vector<VersionRow> rows = TRY(parts_.registry.versions(name));
    const auto row = std::ranges::find(rows, number.value, &VersionRow::number);
    if (row != rows.end()) {
      some.provenance = provenance_json(row->provenance, keys);
      some.measured = object_in(row->report);
    }
    const auto manifest = TRY(parts_.registry.manifest(digest));
    some.inputs = tensors_json(manifest->signature.inputs);
    some.outputs = tensors_json(manifest->signature.outputs);
    return some;
  }));
  parts.rollout = parts_.rollouts.describe(name);
  co_return model_card(std::move(parts));
}

Task<Result<Response>> LineageApi::card(const Exchange& exchange, const Route& route) {
  const std::string format = exchange.head().query("format").value_or("json");
  if (format != "json" && format != "html")
    co_return refuse(reason::kBadRequest, "format must be json or html");
  CO_TRY(const Json made, co_await make_card(route));
  if (format == "json") co_return json_response(made);
  std::string page = co_await parts_.pool.run([&] { return card_page(made); });
  co_return page_response(std::move(page));
}

// The best that a training found, if it has ended and made no version.
Task<Result<TrainedModel>> LineageApi::find_trained(const Route& route) {
  auto job = co_await parts_.engine.find(route.version);
  const bool own = job && project_of(job->spec.function) == route.caller->project &&
                   check_access(*route.caller, Needs::Deploy, local_name(job->spec.function));
  if (!own) {
    if (!job && job.error().reason != reason::kNotFound) co_return std::unexpected(job.error());
    co_return refuse(reason::kNotFound,
                     fmt::format("there is no job '{}'", route.version.substr(0, 64)));
  }
  if (job->spec.kind != JobKind::Train || job->state != JobState::Done) {
    co_return refuse(reason::kConflict,
                     fmt::format("job {} is a {} that is {}: only a training that is done has "
                                 "something to register",
                                 job->spec.id, to_string(job->spec.kind), to_string(job->state)));
  }
  const Json result = object_in(job->result);
  const std::string best = text_at(at(result, "best"), "job");
  if (best.empty())
    co_return refuse(reason::kConflict, fmt::format("job {} has found no model", job->spec.id));
  CO_TRY(JobRecord trial, co_await parts_.engine.find(best));
  TrainedModel trained{
      .job = *std::move(job), .trial = std::move(trial), .score = {}, .serve = false, .author = {}};
  if (const std::string score = text_at(at(result, "test"), "job"); !score.empty()) {
    CO_TRY(trained.score, co_await parts_.engine.find(score));
  }
  co_return trained;
}

Task<Result<Response>> LineageApi::add(Exchange& exchange, const Route& route) {
  CO_TRY(TrainedModel trained, co_await find_trained(route));
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(const Json json, parse_json(text, "body"));
  std::string why;
  JsonReader reader(json, "body", reason::kBadRequest);
  reader.text("reason", why);
  CO_TRY_STATUS(reader.finish());
  if (why.empty() || why.size() > kMostOfReason) {
    co_return refuse(reason::kBadRequest,
                     fmt::format("say why: a reason of 1 to {} bytes is kept", kMostOfReason));
  }
  trained.author = {.who = author_of(exchange, route), .why = why};
  const std::string function(local_name(trained.job.spec.function));
  CO_TRY(const Registered made, co_await parts_.add(std::move(trained)));
  co_return json_response({{"function", function},
                           {"version", made.version.value},
                           {"job", route.version},
                           {"gate", made.gate}});
}

}  // namespace mayfly
