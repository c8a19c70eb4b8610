// {"requests": 10, "errors": 1,
//  "run": {"hot": [[BIN, COUNT], …], "template": …, "cold": …}, "start": {"template": …, …},
//  "outputs": {"score": {"replies": 9, "non_finite": 0, "non_finite_replies": 0, "values": 9,
//              "mean": 0.5, "squares": 0.1, "low": 0, "high": 1, "first_print": 77, "varied": true,
//              "prints": [[SLOT, COUNT], …]}},
//  "agreement": {"compared": 9, "agreed": 9, "max_difference": 0}}
#include <fmt/format.h>

#include <limits>

#include "core/reason.h"
#include "rollout/evidence_json.h"
#include "rollout/json_numbers.h"

namespace mayfly::rollout {
namespace {

// Far beyond what is ever counted, and sums of many still fit.
constexpr std::uint64_t kMostCounted = std::uint64_t{1} << 53;
constexpr double kLargestSum = 1e250;
constexpr double kLargestMean = 1.001e100;  // Moments clamps to 1e100, and rounds
constexpr double kLargestReal = std::numeric_limits<double>::max();

Json counts_json(const auto& counts) {
  Json json = Json::array();
  for (const auto& [at, count] : counts) json.push_back(Json::array({at, count}));
  return json;
}

// Calls `add(at, count)` for each pair; false when something else stands there. Ascending, so that
// nothing is counted twice.
bool read_counts(const Json& json, std::uint64_t limit, auto add) {
  if (!json.is_array()) return false;
  std::uint64_t next = 0;
  std::uint64_t total = 0;
  for (const Json& pair : json) {
    if (!pair.is_array() || pair.size() != 2) return false;
    if (!pair[0].is_number_unsigned() || !pair[1].is_number_unsigned()) return false;
    const auto at = pair[0].get<std::uint64_t>();
    const auto count = pair[1].get<std::uint64_t>();
    if (at < next || at >= limit || count == 0 || count > kMostCounted - total) return false;
    next = at + 1;
    total += count;
    add(at, count);
  }
  return true;
}

using TierTimes = std::array<LogHistogram, Evidence::kTiers.size()>;

Json times_json(const TierTimes& times) {
  Json json = Json::object();
  for (std::size_t i = 0; i < times.size(); ++i) {
    if (times.at(i).count() == 0) continue;
    json[std::string(to_string(Evidence::kTiers.at(i)))] = counts_json(times.at(i).bins());
  }
  return json;
}

Status read_times(JsonReader& outer, std::string_view key, TierTimes& times) {
  const Json* found = outer.value(key);
  if (found == nullptr) return {};
  JsonReader reader(*found, fmt::format("evidence: '{}'", key), reason::kBadRequest);
  for (std::size_t i = 0; i < times.size(); ++i) {
    const std::string_view tier = to_string(Evidence::kTiers.at(i));
    const Json* counts = reader.value(tier);
    if (counts == nullptr) continue;
    const bool good = read_counts(*counts, LogHistogram::kBins, [&](auto bin, auto count) {
      times.at(i).add_bin(static_cast<std::uint32_t>(bin), count);
    });
    if (!good) reader.error(tier, "must be a list of [bin, count]");
  }
  return reader.finish();
}

Json output_json(const OutputEvidence& output) {
  std::map<std::size_t, std::uint64_t> prints;
  for (std::size_t i = 0; i < output.prints.size(); ++i) {
    if (output.prints.at(i) > 0) prints.emplace(i, output.prints.at(i));
  }
  const Moments& moments = output.moments;
  return {{"replies", output.replies},
          {"non_finite", output.non_finite},
          {"non_finite_replies", output.non_finite_replies},
          {"values", moments.count},
          {"mean", moments.mean},
          {"squares", moments.squares},
          {"low", moments.low},
          {"high", moments.high},
          {"first_print", output.first_print},
          {"varied", output.varied},
          {"prints", counts_json(prints)}};
}

Status read_output(const std::string& name, const Json& json, OutputEvidence& output) {
  JsonReader reader(json, fmt::format("evidence: output '{}'", name), reason::kBadRequest);
  Moments& moments = output.moments;
  reader.integer("replies", output.replies, 0U, kMostCounted)
      .integer("non_finite", output.non_finite, 0U, kMostCounted)
      .integer("non_finite_replies", output.non_finite_replies, 0U, kMostCounted)
      .integer("values", moments.count, 0U, kMostCounted)
      .integer("first_print", output.first_print, 0U, std::numeric_limits<std::uint64_t>::max())
      .boolean("varied", output.varied);
  read_real(reader, "mean", moments.mean, -kLargestMean, kLargestMean);
  read_real(reader, "squares", moments.squares, 0, kLargestSum);
  read_real(reader, "low", moments.low, -kLargestReal, kLargestReal);
  read_real(reader, "high", moments.high, -kLargestReal, kLargestReal);
  if (moments.low > moments.high) reader.error("low", "must not exceed 'high'");
  std::uint64_t printed = 0;
  const Json* prints = reader.value("prints");
  const bool good = prints == nullptr ||
                    read_counts(*prints, OutputEvidence::kPrints, [&](auto slot, auto count) {
                      output.prints.at(slot) = count;
                      printed += count;
                    });
  if (!good || printed != output.replies) {
    reader.error("prints", "must be a list of [slot, count] that adds up to 'replies'");
  }
  if (output.non_finite_replies > output.replies || output.non_finite_replies > output.non_finite) {
    reader.error("non_finite_replies", "must not exceed 'replies' or 'non_finite'");
  }
  return reader.finish();
}

Status read_outputs(JsonReader& outer, Evidence& evidence) {
  const Json* found = outer.value("outputs");
  if (found == nullptr) return {};
  if (!found->is_object() || found->size() > Evidence::kMaxOutputs) {
    outer.error("outputs", fmt::format("must be an object of at most {}", Evidence::kMaxOutputs));
    return {};
  }
  for (const auto& [name, json] : found->items()) {
    TRY(read_output(name, json, evidence.outputs[name]));
  }
  return {};
}

Status read_agreement(JsonReader& outer, Agreement& agreement) {
  const Json* found = outer.value("agreement");
  if (found == nullptr) return {};
  JsonReader reader(*found, "evidence: 'agreement'", reason::kBadRequest);
  reader.integer("compared", agreement.compared, 0U, kMostCounted)
      .integer("agreed", agreement.agreed, 0U, agreement.compared);
  read_real(reader, "max_difference", agreement.max_difference, 0, kLargestReal);
  return reader.finish();
}

}  // namespace

Json evidence_json(const Evidence& evidence) {
  Json outputs = Json::object();
  for (const auto& [name, output] : evidence.outputs) outputs[name] = output_json(output);
  return {{"requests", evidence.requests},
          {"errors", evidence.errors},
          {"run", times_json(evidence.run)},
          {"start", times_json(evidence.start)},
          {"outputs", outputs},
          {"agreement",
           {{"compared", evidence.agreement.compared},
            {"agreed", evidence.agreement.agreed},
            {"max_difference", evidence.agreement.max_difference}}}};
}

Result<Evidence> read_evidence(const Json& json) {
  Evidence evidence;
  JsonReader reader(json, "evidence", reason::kBadRequest);
  reader.integer("requests", evidence.requests, 0U, kMostCounted)
      .integer("errors", evidence.errors, 0U, evidence.requests);
  TRY(read_times(reader, "run", evidence.run));
  TRY(read_times(reader, "start", evidence.start));
  TRY(read_outputs(reader, evidence));
  TRY(read_agreement(reader, evidence.agreement));
  TRY(reader.finish());
  return evidence;
}

std::string to_json(const Evidence& evidence) {
  return evidence_json(evidence).dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Evidence> parse_evidence(std::string_view json) {
  return read_evidence(TRY(parse_json(json, "evidence")));
}

}  // namespace mayfly::rollout
