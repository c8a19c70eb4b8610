#include "runner/report/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

using enum ColumnKind;

constexpr std::array<std::string_view, 6> kKindNames = {"number",   "integer", "date",
                                                        "category", "text",    "image"};
constexpr std::array<std::string_view, 6> kTaskNames = {"binary",  "multiclass", "regression",
                                                        "ranking", "clustering", "recommendation"};
constexpr std::array<std::string_view, 6> kTrainerNames = {"xgboost", "linear", "kmeans",
                                                           "mf",      "cnn",    "function"};

constexpr std::array kTables = {Number, Integer, Date, Category, Text};
constexpr std::array kAmounts = {Number, Integer};
constexpr std::array kImages = {Image};
constexpr std::array kAnyColumns = {Number, Integer, Date, Category, Text, Image};
constexpr std::array kAnyTasks = {TrainTask::Binary, TrainTask::Multiclass, TrainTask::Regression,
                                  TrainTask::Ranking, TrainTask::Clustering};

constexpr std::array kXgboostTasks = {TrainTask::Binary, TrainTask::Multiclass,
                                      TrainTask::Regression, TrainTask::Ranking};
constexpr std::array kLinearTasks = {TrainTask::Binary, TrainTask::Multiclass,
                                     TrainTask::Regression};
constexpr std::array kKmeansTasks = {TrainTask::Clustering};
constexpr std::array kMfTasks = {TrainTask::Recommendation};
constexpr std::array kCnnTasks = {TrainTask::Binary, TrainTask::Multiclass};

constexpr std::array<TrainerParam, 15> kXgboostParams = {{
    {"rounds", true, 1, 100'000, 500, "trees, each for every class"},
    {"early_stop", true, 0, 100'000, 50,
     "rounds without a better metric after which it ends; 0: never"},
    {"eta", false, 0.0001, 1, 0.1, "learning rate: how much each tree counts"},
    {"max_depth", true, 1, 16, 6, "of a tree"},
    {"min_child_weight", false, 0, 1e6, 1, "of the rows in a leaf, at least"},
    {"gamma", false, 0, 1e6, 0, "what a split must gain"},
    {"subsample", false, 0.05, 1, 0.8, "share of the rows that each tree sees"},
    {"colsample_bytree", false, 0.05, 1, 0.8, "share of the features that each tree sees"},
    {"lambda", false, 0, 1e6, 1, "L2 regularisation of leaves"},
    {"alpha", false, 0, 1e6, 0, "L1 regularisation of leaves"},
    {"scale_pos_weight", false, 0.0001, 10'000, 1, "weight of the positive class, of two"},
    {"max_bin", true, 8, 65'536, 256, "histogram bins of a feature"},
    {"one_hot", true, 0, 1000, 32, "categories up to which each is a feature; beyond, their ranks"},
    {"text_words", true, 1, 20'000, 500, "words of a text column that count"},
    {"text_pairs", true, 0, 20'000, 250, "pairs of words that count"},
}};

constexpr std::array<TrainerParam, 6> kLinearParams = {{
    {"c", false, 1e-6, 1e6, 1, "cost of errors: the inverse of regularisation"},
    {"tolerance", false, 1e-8, 1, 0.001, "of the gradient, where it ends"},
    {"epsilon", false, 0, 1e6, 0, "regression: standard deviations that are no error"},
    {"one_hot", true, 1, 10'000, 200, "the most frequent categories, each a feature"},
    {"text_words", true, 1, 20'000, 2000, "words of a text column that count"},
    {"text_pairs", true, 0, 20'000, 1000, "pairs of words that count"},
}};

constexpr std::array<TrainerParam, 6> kKmeansParams = {{
    {"clusters", true, 2, 10'000, 8, "how many"},
    {"iterations", true, 1, 10'000, 25, "of each start"},
    {"starts", true, 1, 1000, 10, "from other random rows; the best counts"},
    {"one_hot", true, 1, 10'000, 50, "the most frequent categories, each a feature"},
    {"text_words", true, 1, 20'000, 200, "words of a text column that count"},
    {"text_pairs", true, 0, 20'000, 0, "pairs of words that count"},
}};

constexpr std::array<TrainerParam, 5> kMfParams = {{
    {"factors", true, 1, 512, 16, "of each user and item"},
    {"lambda", false, 1e-6, 0.99, 0.125,
     "L2 regularisation, as a share of what leaves no factor at all"},
    {"alpha", false, 0.01, 10'000, 10,
     "how much more a pair that is there counts than one that is not"},
    {"iterations", true, 1, 1000, 20, "each fits all items, then all users"},
    {"top", true, 1, 1000, 10, "items that are recommended, at most"},
}};

// trainers/cnn reads all of them.
constexpr std::array<TrainerParam, 8> kCnnParams = {{
    {"epochs", true, 1, 100'000, 30, "rounds over all rows"},
    {"early_stop", true, 0, 100'000, 10,
     "epochs without a better log_loss after which it ends; 0: never"},
    {"learning_rate", false, 1e-6, 1, 0.003, "at its highest"},
    {"batch", true, 2, 65'536, 64, "images of a step"},
    {"width", true, 1, 1024, 32, "channels of the first layers; they double where images halve"},
    {"dropout", false, 0, 0.9, 0.1, "share of the features that a step does not see"},
    {"weight_decay", false, 0, 1, 0.0005, "how much weights shrink"},
    {"shift", true, 0, 64, 1, "pixels by which images are moved at most, each step anew"},
}};

constexpr std::size_t kBuiltIn = 5;
constexpr std::array<TrainerInfo, kBuiltIn + 1> kTrainers = {{
    {.kind = TrainerKind::Xgboost,
     .meaning = "gradient-boosted trees (XGBoost)",
     .tasks = kXgboostTasks,
     .columns = kTables,
     .params = kXgboostParams,
     .several_workers = true},
    {.kind = TrainerKind::Linear,
     .meaning = "logistic and ridge regression (LIBLINEAR)",
     .tasks = kLinearTasks,
     .columns = kTables,
     .params = kLinearParams,
     .interruptible = false},
    {.kind = TrainerKind::Kmeans,
     .meaning = "clusters around centroids (Faiss)",
     .tasks = kKmeansTasks,
     .columns = kTables,
     .params = kKmeansParams},
    {.kind = TrainerKind::Mf,
     .meaning = "recommendation by matrix factorisation (cmfrec)",
     .tasks = kMfTasks,
     .columns = kAmounts,
     .params = kMfParams},
    {.kind = TrainerKind::Cnn,
     .meaning = "a convolutional network over images (PyTorch)",
     .tasks = kCnnTasks,
     .columns = kImages,
     .params = kCnnParams},
    {.kind = TrainerKind::Function,
     .meaning = "the train(ctx) of a Python function",
     .tasks = kAnyTasks,
     .columns = kAnyColumns,
     .params = {}},
}};

template <typename Kind, std::size_t count>
std::optional<Kind> kind_of(const std::array<std::string_view, count>& names,
                            std::string_view name) {
  const auto found = std::ranges::find(names, name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Kind>(found - names.begin());
}

template <typename Kinds>
std::string list_of(const Kinds& kinds) {
  std::string list;
  for (const auto& kind : kinds)
    list += fmt::format("{}{}", list.empty() ? "" : ", ", to_string(kind));
  return list;
}

std::string range_of(const TrainerParam& param) {
  return fmt::format("{} ({} to {}, else {})", param.name, param.low, param.high, param.standard);
}

std::unexpected<Error> bad_param(TrainerKind trainer, std::string_view what) {
  std::string list;
  for (const TrainerParam& param : trainer_info(trainer).params)
    list += fmt::format("{}{}", list.empty() ? "" : ", ", range_of(param));
  return refuse(reason::kInvalidInput,
                fmt::format("{}. {} takes: {}", what, to_string(trainer), list));
}

}  // namespace

std::string_view to_string(ColumnKind kind) { return kKindNames.at(std::to_underlying(kind)); }
std::optional<ColumnKind> parse_column_kind(std::string_view name) {
  return kind_of<ColumnKind>(kKindNames, name);
}
std::string_view to_string(TrainTask task) { return kTaskNames.at(std::to_underlying(task)); }
std::optional<TrainTask> parse_train_task(std::string_view name) {
  return kind_of<TrainTask>(kTaskNames, name);
}
std::string_view to_string(TrainerKind kind) { return kTrainerNames.at(std::to_underlying(kind)); }
std::optional<TrainerKind> parse_trainer(std::string_view name) {
  return kind_of<TrainerKind>(kTrainerNames, name);
}

const TrainerInfo& trainer_info(TrainerKind kind) { return kTrainers.at(std::to_underlying(kind)); }
std::span<const TrainerInfo> trainer_catalogue() { return std::span(kTrainers).first<kBuiltIn>(); }

Status check_task(TrainerKind trainer, TrainTask task) {
  const TrainerInfo& some = trainer_info(trainer);
  if (std::ranges::find(some.tasks, task) != some.tasks.end()) return {};
  return refuse(reason::kInvalidInput, fmt::format("{} does no {}; it does {}", to_string(trainer),
                                                   to_string(task), list_of(some.tasks)));
}

Status check_column(TrainerKind trainer, std::string_view name, ColumnKind kind) {
  const TrainerInfo& some = trainer_info(trainer);
  if (std::ranges::find(some.columns, kind) != some.columns.end()) return {};
  return refuse(reason::kInvalidInput,
                fmt::format("{} cannot learn from column '{}', which is of type {}; it takes {}. "
                            "Leave the column out, or take another trainer",
                            to_string(trainer), name, to_string(kind), list_of(some.columns)));
}

Result<TrainerParams> TrainerParams::parse(TrainerKind trainer, const Json& given) {
  if (!given.is_object()) return bad_param(trainer, "the parameters are no object");
  const auto params = trainer_info(trainer).params;
  std::vector<double> values;
  for (const TrainerParam& param : params) values.push_back(param.standard);
  for (const auto& [key, value] : given.items()) {
    const auto param = std::ranges::find(params, key, &TrainerParam::name);
    if (param == params.end())
      return bad_param(trainer, fmt::format("there is no parameter '{}'", key));
    const double number = value.is_number() ? value.get<double>() : std::nan("");
    const bool whole = !param->integer || number == std::floor(number);
    if (!(number >= param->low && number <= param->high) || !whole) {
      return bad_param(trainer, fmt::format("{} = {} is not {}{} to {}", key, value.dump(),
                                            param->integer ? "a whole number of " : "", param->low,
                                            param->high));
    }
    values[static_cast<std::size_t>(param - params.begin())] = number;
  }
  return TrainerParams(trainer, std::move(values));
}

double TrainerParams::real(std::string_view name) const {
  const auto params = trainer_info(trainer_).params;
  const auto param = std::ranges::find(params, name, &TrainerParam::name);
  return values_.at(static_cast<std::size_t>(param - params.begin()));
}

std::uint32_t TrainerParams::integer(std::string_view name) const {
  return static_cast<std::uint32_t>(real(name));
}

Json TrainerParams::to_json() const {
  Json json = Json::object();
  const auto params = trainer_info(trainer_).params;
  for (std::size_t i = 0; i < params.size(); ++i) {
    const std::string name(params[i].name);
    if (params[i].integer) {
      json[name] = static_cast<std::uint32_t>(values_[i]);
    } else {
      json[name] = values_[i];
    }
  }
  return json;
}

}  // namespace mayfly
