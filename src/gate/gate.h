// The gate: whether a version that was trained may get its function's requests. Pure functions from
// what was measured to a verdict with the numbers that say why.
//
// A challenger is held against the champion on the same rows, of which neither was trained or tuned
// on any. Whether it is better, or not worse by more than the policy's margin, says a test with
// probability of a wrong yes `alpha`: McNemar's for accuracy, else the paired bootstrap
// (validation/interval.h). Slices are tested for harm likewise, one-sided and paired: both models
// on the same rows of the slice; with Holm's step-down correction (Holm 1979) over all values of
// all columns. Too few rows, rows that are not comparable, and metrics without a comparison are no
// grounds for promotion.
//
// A first version has no champion: the pessimistic end of its metric must beat every baseline that
// knows nothing of the row. One that is a model, too, must not be shown to be better: its value
// lies no further than the optimistic end.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "core/gate_policy.h"
#include "core/json_reader.h"
#include "validation/interval.h"

namespace mayfly::gate {

struct Check {
  std::string name;  // "improvement"
  bool passed = false;
  std::string text;               // one line for people, with the numbers
  Json numbers = Json::object();  // the same for machines
};

struct Verdict {
  bool passed = false;
  std::string why;  // of a no: the texts of the checks that failed; of a yes: the first text
  std::vector<Check> checks;
};
// {"passed", "why", "checks": [{"check", "passed", "text", …numbers}]}
Json to_json_value(const Verdict& verdict);
// One check that failed: nothing could be compared.
Verdict refused(std::string_view check, std::string text);

// What one run and one copy cost; 0: not measured.
struct Costs {
  Duration run{};
  Bytes size{};
};

// The rows that have one value of a column.
struct SliceMatch {
  std::string column, value;
  std::vector<std::uint32_t> rows;  // places among the match's
};

struct Match {
  validation::Metric metric = validation::Metric::Accuracy;
  validation::Predictions champion, challenger;  // of the same rows
  std::vector<SliceMatch> slices = {};
  Costs champion_costs = {}, challenger_costs = {};
  std::uint64_t seed = 0;
};
Verdict judge(const GatePolicy& policy, const Match& match);

struct First {
  std::string metric;
  bool higher_is_better = true;
  std::optional<validation::Interval> score = {};  // of the test rows; nullopt: none were scored
  std::uint64_t rows = 0;
  std::map<std::string, double, std::less<>> baselines = {};  // in the same metric
  std::map<std::string, double, std::less<>> models = {};     // baselines that are models
  Costs costs = {};
};
Verdict judge_first(const GatePolicy& policy, const First& first);

// Where rows come from that a model was trained, tuned and tested on.
struct Origin {
  std::string dataset;  // with what identifies this life of its name
  std::uint32_t snapshot = 0;
  std::string split;             // the rule, as JSON
  std::string split_basis = {};  // equal where a row of both snapshots is in the same split
  bool by_time = false;
  std::optional<std::int64_t> test_from = {};  // of a split by time: ms since 1970
  std::string target;
  std::string task;
};
// Whether the test rows of the challenger's snapshot are fair to both: of the same dataset and
// split rule, since a row's split never moves; of splits by time, those later than what either
// learned from. An error says what forbids it. The value: from when on rows count, where not all
// do.
Result<std::optional<std::int64_t>> comparable(const Origin& champion, const Origin& challenger);

}  // namespace mayfly::gate
