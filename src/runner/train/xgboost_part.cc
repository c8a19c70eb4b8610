#include "runner/train/xgboost_part.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kPieceFloats = 8 << 20;  // read at once, at most …
constexpr std::size_t kLeastPiece = 1 << 18;
constexpr std::size_t kPieceShare = 256;  // … and bytes of memory for each of them

std::string objective_of(TrainTask task) {
  switch (task) {
    case TrainTask::Binary:
      return "binary:logistic";
    case TrainTask::Multiclass:
      return "multi:softprob";
    case TrainTask::Ranking:
      return "rank:ndcg";
    case TrainTask::Regression:
    case TrainTask::Clustering:
    case TrainTask::Recommendation:
      break;
  }
  return "reg:squarederror";
}

Result<XgboostMatrix> make_matrix(const XgboostLibrary& library, const TrainerSetup& setup,
                                  const LearnRows& train, const RowPart& part) {
  const FloatRows all{train.matrix.all(), train.matrix.width()};
  XgboostMatrix::Options options{.threads = setup.threads,
                                 .max_bin = setup.params.integer("max_bin"),
                                 .piece = piece_rows(setup, all.width)};
  // Histograms take a byte or two a value, gradients and positions some more a row.
  if (all.values.size_bytes() > setup.memory.count / 3)
    options.cache = (setup.scratch / fmt::format("xgboost-{}", part.first)).native();
  XgboostMatrix matrix =
      TRY(XgboostMatrix::quantiles(library, all.rows(part.first, part.count), options));
  TRY(matrix.set_labels(train.labels.subspan(part.first, part.count)));
  if (part.groups > 0) TRY(matrix.set_groups(train.groups.subspan(part.first_group, part.groups)));
  return matrix;
}

}  // namespace

std::size_t piece_rows(const TrainerSetup& setup, std::size_t width) {
  const std::size_t memory = setup.memory.count / setup.workers;
  const std::size_t floats =
      std::clamp<std::size_t>(memory / kPieceShare, kLeastPiece, kPieceFloats);
  return std::max<std::size_t>(floats / width, 1);
}

Result<std::vector<RowPart>> divide_rows(std::size_t rows, std::span<const std::uint32_t> groups,
                                         std::uint32_t parts) {
  std::vector<RowPart> divided(parts);
  if (groups.empty()) {
    for (std::size_t i = 0; i < parts; ++i) {
      divided[i].first = rows * i / parts;
      divided[i].count = rows * (i + 1) / parts - divided[i].first;
    }
  }
  std::size_t at = 0;
  for (std::size_t group = 0; group < groups.size(); ++group) {
    RowPart& part = divided[at * parts / rows];
    if (part.groups == 0) part = {.first = at, .count = 0, .first_group = group, .groups = 0};
    ++part.groups;
    part.count += groups[group];
    at += groups[group];
  }
  if (std::ranges::any_of(divided, [](const RowPart& part) { return part.count == 0; }))
    return refuse(reason::kInvalidInput,
                  fmt::format("{} rows to train on{} are too few for {} workers", rows,
                              groups.empty() ? "" : ", in groups,", parts));
  return divided;
}

Result<XgboostPart> XgboostPart::make(const XgboostLibrary& library, const TrainerSetup& setup,
                                      const LearnRows& train, const RowPart& part,
                                      const XgboostMatrix* valid) {
  XgboostMatrix matrix = TRY(make_matrix(library, setup, train, part));
  std::vector<void*> known = {matrix.handle()};
  if (valid != nullptr) known.push_back(valid->handle());
  XgboostBooster booster = TRY(XgboostBooster::create(library, known));
  XgboostPart made(setup.threads, std::move(matrix), std::move(booster));
  TRY(made.configure(setup));
  return made;
}

Status XgboostPart::restore(std::string_view saved) {
  TRY(booster_.unserialize(saved));
  return booster_.set("nthread", fmt::format("{}", threads_));
}

Status XgboostPart::configure(const TrainerSetup& setup) {
  TRY(booster_.set("objective", objective_of(setup.task)));
  if (setup.task == TrainTask::Multiclass)
    TRY(booster_.set("num_class", fmt::format("{}", setup.classes)));
  TRY(booster_.set("tree_method", "hist"));
  TRY(booster_.set("nthread", fmt::format("{}", setup.threads)));
  TRY(booster_.set("seed", fmt::format("{}", setup.seed & 0x7fff'ffff)));
  TRY(booster_.set("verbosity", "0"));
  TRY(booster_.set("disable_default_eval_metric", "1"));
  for (const char* name :
       {"eta", "min_child_weight", "gamma", "subsample", "colsample_bytree", "lambda", "alpha"})
    TRY(booster_.set(name, fmt::format("{}", setup.params.real(name))));
  for (const char* name : {"max_depth", "max_bin"})
    TRY(booster_.set(name, fmt::format("{}", setup.params.integer(name))));
  if (setup.task == TrainTask::Binary)
    TRY(booster_.set("scale_pos_weight", fmt::format("{}", setup.params.real("scale_pos_weight"))));
  return {};
}

}  // namespace mayfly
