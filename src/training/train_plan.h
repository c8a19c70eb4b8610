// What a training is to do: a client's wish, and the plan that it becomes before anything runs:
// task, metric, columns, rungs and seed settled, the snapshot pinned. The plan is the detail of the
// job. Values only; both are parsed strictly.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "data/data_ref.h"
#include "data/dataset.h"
#include "runner/report/dataset_schema.h"
#include "runner/report/train_job.h"
#include "search/halving.h"
#include "search/space.h"
#include "training/metric_rule.h"
#include "training/train_code.h"

namespace mayfly {

inline constexpr std::uint32_t kMostTrials = 1000;
inline constexpr std::size_t kMaxTrainPlan = 512 * 1024;

// 0: not bounded.
struct TrainBudget {
  std::uint32_t trials = 0;
  Duration time{};
  double cost = 0;  // in the units of the node's prices
  bool operator==(const TrainBudget&) const = default;
};

// How a search draws configurations: at random, or by what earlier trials have shown
// (search/tpe.h).
enum class Sampler : std::uint8_t { Random, Tpe };
std::string_view to_string(Sampler sampler);
std::optional<Sampler> parse_sampler(std::string_view text);

struct TrainWish {
  DataRef data;  // snapshot 0: the newest
  std::string trainer = "xgboost";
  std::string function;  // of the trainer `function`: "mytrainer@3"; without a version the champion
  std::string target, task, metric, positive, group, goal;
  std::vector<std::string> columns, drop;
  Json params = Json::object();
  std::optional<search::Space> space = {};
  bool search = false;  // of a request that does not say: a goal without params is searched for
  std::string sampler;  // empty: random
  TrainBudget budget;
  std::optional<std::uint64_t> seed = {};
  // Of a worker; 0: as many as there are, or one where trials are beside.
  std::uint32_t threads = 0;
  std::uint32_t workers = 1;  // of a trial, which share its rows
  Bytes memory{};             // of a trial; 0: the standard
  bool baseline = true;       // train a linear model beside it
  bool deploy = true;         // serve what reaches its goal
  bool warm_start = true;     // a search tries the serving version's configuration early
  Duration max_age = std::chrono::days(365);  // a training has no limit of its own
  Duration keep = std::chrono::days(7);
};
// The body of a request.
Result<TrainWish> parse_train_wish(const Json& json);

// Whose configuration a search tries first, after the control.
struct WarmStart {
  std::string version;  // "credit@3"
  Json params;          // those of the space
  bool operator==(const WarmStart&) const = default;
};

struct LeftOutColumn {
  std::string column, why;
  bool operator==(const LeftOutColumn&) const = default;
};

struct TrainPlan {
  DataRef data;
  std::string digest;  // of the snapshot
  SnapshotRows rows;
  TrainJob job;                        // of every trial: without its parameters and rounds
  std::optional<TrainCode> code = {};  // what it runs, of a trainer that is a function
  std::string why;                     // the task is what it is
  MetricRule rule;
  std::vector<LeftOutColumn> left_out;
  search::Space space;  // empty: nothing varies
  Sampler sampler = Sampler::Random;
  std::optional<WarmStart> warm_start = {};
  search::HalvingPlan halving;
  TrainBudget budget;
  std::optional<Goal> goal;
  bool baseline = true;
  bool deploy = true;

  bool searches() const { return halving.trials > 1; }
  // Rounds of a rung; 0: to the trainer's own end.
  std::uint32_t rounds_of(std::uint32_t rung) const;
  // Of trial `number`: 0 is the control, which has what was asked for; 1 the warm start's, where
  // there is one; the others are drawn at random (trial_points.h has those of other samplers).
  Json params_of(std::uint32_t number) const;
};
Json to_json_value(const TrainPlan& plan);
std::string to_json(const TrainPlan& plan);
Result<TrainPlan> parse_train_plan(std::string_view detail);

// What is known of the data and of the node.
struct PlanFacts {
  const SnapshotRecord& snapshot;
  const DatasetSchema& schema;
  const Json& statistics;
  std::uint32_t cpus = 1;  // of all jobs
  Bytes memory{};          // likewise
  std::uint64_t seed = 0;  // where none was asked for
  // The version that the function serves: its name, and how it was trained (a training record,
  // which may come from elsewhere); null: it was not, or there is none.
  std::string serving = {};
  Json record = Json();
  std::optional<TrainCode> code = {};  // of the function that the wish names
  Bytes code_memory{};                 // that its version asks for
  std::string shipped = {};  // of a trainer that Mayfly brings: the function that it will be
};
// bad_request, invalid_input: what cannot be, in words that say what can.
Result<TrainPlan> settle(const TrainWish& wish, const PlanFacts& facts);

// What a search varies when nobody says; empty: the trainer has nothing that is worth it.
search::Space default_space(TrainerKind trainer);

}  // namespace mayfly
