// Trainers, as everybody may know them: what they can learn from, for which tasks, and which
// parameters they take. Values only; runner/train has those that are built in.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/json_reader.h"

namespace mayfly {

// Types of a snapshot's columns, as its schema names them.
enum class ColumnKind : std::uint8_t { Number, Integer, Date, Category, Text, Image };
std::string_view to_string(ColumnKind kind);  // "number"
std::optional<ColumnKind> parse_column_kind(std::string_view name);

enum class TrainTask : std::uint8_t {
  Binary,
  Multiclass,
  Regression,
  Ranking,
  Clustering,
  Recommendation,
};
std::string_view to_string(TrainTask task);  // "binary"
std::optional<TrainTask> parse_train_task(std::string_view name);
inline bool is_classification(TrainTask task) {
  return task == TrainTask::Binary || task == TrainTask::Multiclass;
}

enum class TrainerKind : std::uint8_t {
  Xgboost,
  Linear,
  Kmeans,
  Mf,
  Cnn,       // a Python function that Mayfly brings along
  Function,  // the train(ctx) of a Python function, whose parameters are its own
};
// Whether the train(ctx) of a Python function does it, whoever wrote that.
inline bool is_function(TrainerKind kind) {
  return kind == TrainerKind::Cnn || kind == TrainerKind::Function;
}
std::string_view to_string(TrainerKind kind);
std::optional<TrainerKind> parse_trainer(std::string_view name);

struct TrainerParam {
  std::string_view name;
  bool integer = false;
  double low = 0;  // both ends included
  double high = 1;
  double standard = 0;  // when nobody says
  std::string_view meaning;
};

struct TrainerInfo {
  TrainerKind kind;
  std::string_view meaning;
  std::span<const TrainTask> tasks;
  std::span<const ColumnKind> columns;  // that it can learn from
  std::span<const TrainerParam> params;
  // Whether it can be stopped between steps and go on. If not, a fit is one slice, however long.
  bool interruptible = true;
  // Whether several processes can share its rows.
  bool several_workers = false;
};
inline constexpr std::uint32_t kMostWorkers = 32;
const TrainerInfo& trainer_info(TrainerKind kind);
std::span<const TrainerInfo> trainer_catalogue();  // of all but users' functions

// InvalidArgument (reason invalid_input) names what the trainer cannot do, before anything runs.
Status check_task(TrainerKind trainer, TrainTask task);
Status check_column(TrainerKind trainer, std::string_view name, ColumnKind kind);

// All parameters of a trainer, given or standard.
class TrainerParams {
 public:
  // An object. What is unknown or out of range is refused with the list of what there is.
  static Result<TrainerParams> parse(TrainerKind trainer, const Json& given);
  double real(std::string_view name) const;
  std::uint32_t integer(std::string_view name) const;
  Json to_json() const;

 private:
  TrainerParams(TrainerKind trainer, std::vector<double> values)
      : trainer_(trainer), values_(std::move(values)) {}
  TrainerKind trainer_;
  std::vector<double> values_;  // in the catalogue's order
};

}  // namespace mayfly
