#include "lineage/card.h"

#include <fmt/format.h>

#include <utility>

#include "core/printable.h"
#include "lineage/json_parts.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kFewRows = 100;
constexpr std::size_t kMostNamed = 120;

std::string shown(const Json& json, std::string_view key) {
  return printable(text_at(json, key), kMostNamed);
}

std::string purpose_of(const Json& record) {
  if (record.is_null())
    return "It was deployed as it is: the platform knows its files, not how they came to be.";
  const std::string task = text_at(record, "task");
  const Json& data = at(record, "data").is_array() && !at(record, "data").empty()
                         ? at(record, "data").front()
                         : nothing();
  const std::string rows =
      fmt::format("rows like those of the dataset '{}'", shown(data, "dataset"));
  const std::string target = shown(record, "target");
  if (task == "clustering") return fmt::format("It tells groups apart among {}.", rows);
  if (task == "ranking") return fmt::format("It orders {} by '{}'.", rows, target);
  if (task == "regression") return fmt::format("It predicts the number '{}' of {}.", target, rows);
  if (task == "recommendation")
    return fmt::format("It recommends values of '{}', learned from {}.", target, rows);
  return fmt::format("It predicts '{}' of {}: one of {} classes.", target, rows,
                     at(record, "classes").size());
}

void add_limits_of_data(const Json& lineage, const Json& record, Json& limits) {
  for (const Json& data : at(lineage, "data")) {
    const Json& erased = at(data, "erased");
    if (erased.is_null()) continue;
    limits.push_back(fmt::format("Its data, {}@{}, were erased on {}: {}", shown(data, "dataset"),
                                 count_at(data, "snapshot"), shown(erased, "time"),
                                 shown(erased, "reason")));
  }
  for (const Json& data : at(record, "data")) {
    const std::uint64_t test = count_at(at(data, "rows"), "test");
    if (test < kFewRows)
      limits.push_back(fmt::format("Only {} rows were held out to test it.", test));
    if (const std::uint64_t bad = count_at(data, "bad_rows"); bad > 0)
      limits.push_back(fmt::format("{} rows of its sources could not be read.", bad));
  }
}

Json limits_of(const Json& lineage, const Json& record) {
  Json limits = Json::array();
  if (record.is_null()) {
    limits.push_back("What it learned from, and how good it is, is not known.");
    return limits;
  }
  if (!at(lineage, "imported").is_null())
    limits.push_back("It was trained elsewhere: the figures are those that came with it.");
  add_limits_of_data(lineage, record, limits);
  if (at(at(record, "metrics"), "test").is_null())
    limits.push_back("It was never scored on rows that were held out from its choice.");
  if (const std::uint64_t looks = count_at(record, "looks"); looks > 1)
    limits.push_back(
        fmt::format("Its test rows were looked at {} times: what is said of them is "
                    "corrected for that.",
                    looks));
  if (!at(record, "gate").is_null() && !flag_at(at(record, "gate"), "passed"))
    limits.push_back("The gate did not let it have requests by itself: " +
                     printable(text_at(at(record, "gate"), "why"), 1000));
  limits.push_back("It says nothing of rows that are unlike those it was trained on.");
  return limits;
}

}  // namespace

Json model_card(CardParts parts) {
  Json card{{"format", 1},
            {"function", at(parts.lineage, "function")},
            {"version", at(parts.lineage, "version")},
            {"created", at(parts.lineage, "created")},
            {"deployed_by", at(parts.lineage, "deployed_by")},
            {"purpose", purpose_of(parts.record)},
            {"limits", limits_of(parts.lineage, parts.record)},
            {"inputs", std::move(parts.inputs)},
            {"outputs", std::move(parts.outputs)},
            {"provenance", std::move(parts.provenance)},
            {"serves", at(parts.lineage, "serves")},
            {"rollout", std::move(parts.rollout)},
            {"measured", std::move(parts.measured)},
            {"data", at(parts.lineage, "data")},
            {"training", std::move(parts.record)}};
  return card;
}

}  // namespace mayfly
