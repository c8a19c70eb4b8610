#include "runner/train/mf_trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "core/reason.h"
#include "core/units.h"

// Of cmfrec's API (cmfrec.h, 3.5.1), in double precision with 32-bit indices. Its header defines
// macros like isnan, which no C++ survives. 0: it went well; 1: no memory; 2: bad arguments.
extern "C" {
// NOLINTBEGIN(readability-identifier-naming, readability-function-size): as the library has them
int fit_collective_implicit_als(
    double* A, double* B, double* C, double* D, bool reset_values, int seed, double* U_colmeans,
    double* I_colmeans, int m, int n, int k, int* ixA, int* ixB, double* X, std::size_t nnz,
    double lam, double* lam_unique, double l1_lam, double* l1_lam_unique, double* U, int m_u, int p,
    double* II, int n_i, int q, int* U_row, int* U_col, double* U_sp, std::size_t nnz_U, int* I_row,
    int* I_col, double* I_sp, std::size_t nnz_I, bool NA_as_zero_U, bool NA_as_zero_I, int k_main,
    int k_user, int k_item, double w_main, double w_user, double w_item, double* w_main_multiplier,
    double alpha, bool adjust_weight, bool apply_log_transf, int niter, int nthreads, bool verbose,
    bool handle_interrupt, bool use_cg, int max_cg_steps, bool precondition_cg, bool finalize_chol,
    bool nonneg, int max_cd_steps, bool nonneg_C, bool nonneg_D, bool precompute_for_predictions,
    double* precomputedBtB, double* precomputedBeTBe, double* precomputedBeTBeChol,
    double* precomputedCtUbias);
int topN_old_collective_implicit(double* a_vec, double* A, int row_index, double* B, int k,
                                 int k_user, int k_item, int k_main, int* include_ix, int n_include,
                                 int* exclude_ix, int n_exclude, int* outp_ix, double* outp_score,
                                 int n_top, int n, int nthreads);
int predict_X_old_collective_implicit(int* row, int* col, double* predicted, std::size_t n_predict,
                                      double* A, double* B, int k, int k_user, int k_item,
                                      int k_main, int m, int n, int nthreads);
// NOLINTEND(readability-identifier-naming, readability-function-size)
}

namespace mayfly {
namespace {

constexpr std::size_t kMostIds = std::numeric_limits<int>::max() - 1;  // its indices are ints

Status explain_cmfrec(int code) {
  if (code == 0) return {};
  if (code == 1)
    return refuse(reason::kTooLarge, "mf has not enough memory for its factors: give it more");
  return fail(Code::Internal, fmt::format("cmfrec did not take its arguments ({})", code));
}

// Pairs twice over, by user and by item, as it arranges them, and as it is given them.
Bytes memory_of_fit(const Interactions& train, std::size_t factors) {
  constexpr std::size_t kPair = sizeof(Interaction) + 2 * sizeof(int) + 2 * sizeof(double) +
                                2 * (sizeof(int) + sizeof(double));
  const std::size_t ids = train.users.size() + train.items.size();
  return Bytes{train.pairs.size() * kPair + ids * (factors + 8) * sizeof(double)};
}

}  // namespace

MfTrainer::MfTrainer(TrainerParams params, std::uint64_t seed, const Interactions& train)
    : params_(std::move(params)),
      seed_(seed),
      train_(train),
      factors_(params_.integer("factors")),
      users_(train.users.size() * factors_),
      items_(train.items.size() * factors_),
      popularity_(popularity(train)) {
  // What the strongest factor of a matrix that is the same everywhere would be worth: with more
  // than that nothing is worth a factor.
  const double weight = (1 + params_.real("alpha")) * static_cast<double>(train.pairs.size());
  const double area =
      static_cast<double>(train.users.size()) * static_cast<double>(train.items.size());
  lambda_ = params_.real("lambda") * weight / std::sqrt(area);
}

Result<std::unique_ptr<MfTrainer>> MfTrainer::create(const TrainerParams& params,
                                                     std::uint64_t seed, Bytes memory,
                                                     const Interactions& train) {
  if (train.users.size() < 2 || train.items.size() < 2) {
    return refuse(reason::kInvalidInput,
                  fmt::format("the training rows are of {} user(s) and {} item(s): there is "
                              "nothing to choose between",
                              train.users.size(), train.items.size()));
  }
  if (train.pairs.empty())
    return refuse(reason::kInvalidInput, "no training row says that a user has an item");
  const Bytes need = memory_of_fit(train, params.integer("factors"));
  if (train.users.size() > kMostIds || train.items.size() > kMostIds ||
      need.count > memory.count / 2) {
    return refuse(reason::kTooLarge,
                  fmt::format("mf keeps its pairs and factors in memory, {} of them here, which is "
                              "more than half of memory = {}: give it more, or take fewer factors",
                              to_string(need), to_string(memory)));
  }
  return std::unique_ptr<MfTrainer>(new MfTrainer(params, seed, train));
}

Status MfTrainer::step() {
  const std::size_t count = train_.pairs.size();
  std::vector<int> users;
  std::vector<int> items;
  std::vector<double> amounts;
  double sum = 0;
  for (const Interaction& one : train_.pairs) sum += one.amount;
  for (const Interaction& one : train_.pairs) {
    users.push_back(static_cast<int>(one.user));
    items.push_back(static_cast<int>(one.item));
    amounts.push_back(one.amount * static_cast<double>(count) / sum);
  }
  double multiplier = 1;
  TRY(explain_cmfrec(fit_collective_implicit_als(
      users_.data(), items_.data(), nullptr, nullptr, rounds_ == 0,
      static_cast<int>(seed_ & 0x7fff'ffff), nullptr, nullptr,
      static_cast<int>(train_.users.size()), static_cast<int>(train_.items.size()),
      static_cast<int>(factors_), users.data(), items.data(), amounts.data(), count, lambda_,
      nullptr, 0, nullptr, nullptr, 0, 0, nullptr, 0, 0, nullptr, nullptr, nullptr, 0, nullptr,
      nullptr, nullptr, 0, false, false, 0, 0, 0, 1, 1, 1, &multiplier, params_.real("alpha"),
      false, false, 1, 1, false, false, false, 0, false, false, false, 0, false, false, false,
      nullptr, nullptr, nullptr, nullptr)));
  const auto is_number = [](double value) { return std::isfinite(value); };
  if (!std::ranges::all_of(users_, is_number) || !std::ranges::all_of(items_, is_number))
    return refuse(reason::kInvalidInput, "cmfrec found no factors that are numbers");
  ++rounds_;
  return {};
}

// The round, then the factors of users and of items.
Result<std::string> MfTrainer::save() {
  std::string saved;
  const auto append = [&saved](const void* bytes, std::size_t count) {
    saved.append(static_cast<const char*>(bytes), count);
  };
  append(&rounds_, sizeof rounds_);
  append(users_.data(), users_.size() * sizeof(double));
  append(items_.data(), items_.size() * sizeof(double));
  return saved;
}

Status MfTrainer::restore(std::string_view saved) {
  const std::size_t of_users = users_.size() * sizeof(double);
  const std::size_t of_items = items_.size() * sizeof(double);
  if (saved.size() != sizeof rounds_ + of_users + of_items)
    return fail(Code::DataLoss, "the checkpoint is of other rows");
  std::memcpy(&rounds_, saved.data(), sizeof rounds_);
  std::memcpy(users_.data(), saved.data() + sizeof rounds_, of_users);
  std::memcpy(items_.data(), saved.data() + sizeof rounds_ + of_users, of_items);
  return {};
}

Result<std::vector<Recommended>> MfTrainer::recommend(std::uint32_t user, std::size_t most) const {
  std::vector<Recommended> found;
  const std::size_t count = train_.items.size();
  if (!is_known(user)) {
    for (std::uint32_t item = 0; item < count; ++item)
      found.push_back({.item = item, .score = static_cast<double>(popularity_[item])});
    std::ranges::sort(found, {},
                      [](const Recommended& one) { return std::pair(-one.score, one.item); });
    found.resize(std::min(most, count));
    return found;
  }
  std::vector<int> had;
  for (const Interaction& one : train_.of(user)) had.push_back(static_cast<int>(one.item));
  most = std::min(most, count - had.size());
  if (most == 0) return found;
  std::vector<int> best(most);
  std::vector<double> scores(most);
  // It takes what it does not change as what it might.
  auto* factors_of_users = const_cast<double*>(users_.data());
  auto* factors_of_items = const_cast<double*>(items_.data());
  TRY(explain_cmfrec(topN_old_collective_implicit(
      factors_of_users + user * factors_, nullptr, 0, factors_of_items, static_cast<int>(factors_),
      0, 0, 0, nullptr, 0, had.data(), static_cast<int>(had.size()), best.data(), scores.data(),
      static_cast<int>(most), static_cast<int>(count), 1)));
  for (std::size_t i = 0; i < most; ++i)
    found.push_back({.item = static_cast<std::uint32_t>(best[i]), .score = scores[i]});
  return found;
}

Result<double> MfTrainer::score(std::uint32_t user, std::uint32_t item) const {
  if (!is_known(user)) return static_cast<double>(popularity_[item]);
  int row = static_cast<int>(user);
  int column = static_cast<int>(item);
  double score = 0;
  TRY(explain_cmfrec(predict_X_old_collective_implicit(
      &row, &column, &score, 1, const_cast<double*>(users_.data()),
      const_cast<double*>(items_.data()), static_cast<int>(factors_), 0, 0, 0,
      static_cast<int>(train_.users.size()), static_cast<int>(train_.items.size()), 1)));
  return score;
}

}  // namespace mayfly
