#include "validation/interval.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace mayfly::validation {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kFewestResampled = 10;
constexpr std::size_t kResamplesOfSpread = 200;  // Efron & Tibshirani 1993: enough for one
constexpr std::size_t kResamples = 2000;
constexpr std::size_t kMostRowsOfPercentiles = 10'000;
constexpr std::size_t kLeastOfAClass = 1000;
constexpr std::size_t kMostRowsResampled = 100'000;
constexpr std::size_t kBlocks = 50;

double normal_quantile(double probability) {
  return boost::math::quantile(boost::math::normal(), probability);
}

// Of a mean of so many rows whose spread is their own (Student 1908).
double student_quantile(double share, std::size_t rows) {
  if (rows < 2) return std::numeric_limits<double>::infinity();
  const boost::math::students_t_distribution<> student(static_cast<double>(rows - 1));
  return boost::math::quantile(student, share);
}

// A number below `end`, each as likely (Lemire 2019, without his correction: 2^64 is far beyond).
std::size_t draw(std::mt19937_64& random, std::size_t end) {
  return static_cast<std::size_t>((static_cast<unsigned __int128>(random()) * end) >> 64);
}

Interval wilson(double hits, double count, double z) {
  const double share = hits / count;
  const double scale = 1 + z * z / count;
  const double centre = (share + z * z / (2 * count)) / scale;
  const double half =
      z * std::sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale;
  return {share, std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

struct Moments {
  double mean = 0;
  double variance = 0;  // of one value
};

Moments moments(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, count > 1 ? squares / (count - 1) : 0};
}

std::vector<double> contributions(Metric metric, const Predictions& predictions) {
  return std::visit(
      [&](const auto& some) {
        std::vector<double> each(some.rows());
        for (std::size_t row = 0; row < each.size(); ++row)
          each[row] = contribution(metric, some, row);
        return each;
      },
      predictions);
}

Interval of_mean(const std::vector<double>& values, double z) {
  const Moments found = moments(values);
  const double half = z * std::sqrt(found.variance / static_cast<double>(values.size()));
  return {found.mean, found.mean - half, found.mean + half};
}

// Of values between 0 and 1. Where all are the same no variance is seen: as many that are 1, or 0,
// say what Wilson's interval says.
Interval of_shares(const std::vector<double>& values, double z) {
  const Interval mean = of_mean(values, z);
  if (mean.low < mean.high)
    return {mean.estimate, std::max(0.0, mean.low), std::min(1.0, mean.high)};
  const auto count = static_cast<double>(values.size());
  const Interval rate = wilson(mean.estimate * count, count, z);
  return {mean.estimate, rate.low, rate.high};
}

// For each row the share of the other class's rows that it is rightly above or below, ties half:
// the placements whose variances are DeLong's. Computed from ranks (Sun & Xu 2014).
struct Placements {
  std::vector<double> positives;
  std::vector<double> negatives;
};

Placements placements(const ClassPredictions& predictions) {
  std::vector<std::uint32_t> order(predictions.rows());
  std::iota(order.begin(), order.end(), 0U);
  const auto score = [&](std::uint32_t row) { return predictions.row(row)[1]; };
  std::ranges::sort(order, {}, score);
  const auto positives = static_cast<double>(std::ranges::count(predictions.truth, 1U));
  const double negatives = static_cast<double>(predictions.rows()) - positives;
  Placements found;
  double positives_below = 0;
  double negatives_below = 0;
  for (std::size_t i = 0; i < order.size();) {
    std::size_t end = i;
    double here_positive = 0;
    for (; end < order.size() && score(order[end]) == score(order[i]); ++end)
      here_positive += predictions.truth[order[end]];
    const double here_negative = static_cast<double>(end - i) - here_positive;
    for (; i < end; ++i) {
      if (predictions.truth[order[i]] == 1) {
        found.positives.push_back((negatives_below + here_negative / 2) / negatives);
      } else {
        found.negatives.push_back((positives - positives_below - here_positive / 2) / positives);
      }
    }
    positives_below += here_positive;
    negatives_below += here_negative;
  }
  return found;
}

Interval delong(const ClassPredictions& predictions, double z) {
  const Placements found = placements(predictions);
  if (found.positives.empty() || found.negatives.empty()) return {kUnknown, kUnknown, kUnknown};
  const Moments above = moments(found.positives);
  const Moments below = moments(found.negatives);
  const double area = above.mean;
  const double error = std::sqrt(above.variance / static_cast<double>(found.positives.size()) +
                                 below.variance / static_cast<double>(found.negatives.size()));
  // Where every pair is right no variance is seen; as many right pairs as the smaller class has
  // rows say as much as that many right rows.
  if (area <= 0 || area >= 1 || error == 0) {
    const auto few = static_cast<double>(std::min(found.positives.size(), found.negatives.size()));
    const Interval rate = wilson(area * few, few, z);
    return {area, rate.low, rate.high};
  }
  const double logit = std::log(area / (1 - area));
  const double half = z * error / (area * (1 - area));
  const auto back = [](double value) { return 1 / (1 + std::exp(-value)); };
  return {area, back(logit - half), back(logit + half)};
}

// What `statistic(weights)` is over resamples of rows, sorted; NaN left out.
template <typename Statistic>
std::vector<double> bootstrap(std::size_t rows, std::uint64_t seed, Statistic statistic,
                              std::size_t resamples) {
  std::mt19937_64 random(seed);
  std::vector<std::uint32_t> weights(rows);
  std::vector<double> found;
  found.reserve(resamples);
  for (std::size_t i = 0; i < resamples; ++i) {
    std::ranges::fill(weights, 0U);
    for (std::size_t n = 0; n < rows; ++n) ++weights[draw(random, rows)];
    if (const double value = statistic(weights); !std::isnan(value)) found.push_back(value);
  }
  std::ranges::sort(found);
  return found;
}

// The same over disjoint blocks, rows dealt at random.
template <typename Statistic>
std::vector<double> over_blocks(std::size_t rows, std::uint64_t seed, Statistic statistic) {
  std::mt19937_64 random(seed);
  std::vector<std::uint8_t> block(rows);
  for (std::uint8_t& of : block) of = static_cast<std::uint8_t>(draw(random, kBlocks));
  std::vector<std::uint32_t> weights(rows);
  std::vector<double> found;
  for (std::size_t b = 0; b < kBlocks; ++b) {
    for (std::size_t row = 0; row < rows; ++row) weights[row] = block[row] == b ? 1 : 0;
    if (const double value = statistic(weights); !std::isnan(value)) found.push_back(value);
  }
  return found;
}

double percentile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], place - static_cast<double>(below));
}

struct Resampled {
  Interval bounds;
  double share_not_positive = 1;  // of the distribution: a one-sided p-value for a difference
};

Resampled normal_around(double estimate, double error, double alpha) {
  if (std::isnan(error)) return {{estimate, kUnknown, kUnknown}, 1};
  const double half = normal_quantile(1 - alpha) * error;
  const double p = error > 0 ? boost::math::cdf(boost::math::normal(), -estimate / error)
                             : (estimate > 0 ? 0.0 : 1.0);
  return {{estimate, estimate - half, estimate + half}, p};
}

// NaN where it has a value for too few resamples.
template <typename Statistic>
double standard_error(std::size_t rows, std::uint64_t seed, Statistic statistic) {
  const bool resampled = rows <= kMostRowsResampled;
  const std::vector<double> found = resampled ? bootstrap(rows, seed, statistic, kResamplesOfSpread)
                                              : over_blocks(rows, seed, statistic);
  if (found.size() < kBlocks / 2) return kUnknown;
  const double of_rows = resampled ? 1 : static_cast<double>(kBlocks);
  return std::sqrt(moments(found).variance / of_rows);
}

// Whether a figure's distribution is as good as normal: there are many rows of either kind.
bool is_near_normal(const Predictions& predictions) {
  if (rows_of(predictions) <= kMostRowsOfPercentiles) return false;
  const auto* some = std::get_if<ClassPredictions>(&predictions);
  if (some == nullptr) return true;
  std::vector<std::size_t> counts(some->classes);
  for (const std::uint32_t label : some->truth) ++counts[label];
  return std::ranges::min(counts) >= kLeastOfAClass;
}

// Percentiles of few rows lie too near to the middle: expanded as Hesterberg (The American
// Statistician, 2015) has it.
double expanded(double alpha, std::size_t rows) {
  const auto n = static_cast<double>(rows);
  const double beyond = -std::sqrt(n / (n - 1)) * student_quantile(1 - alpha, rows);
  return boost::math::cdf(boost::math::normal_distribution<>(), beyond);
}

template <typename Statistic>
Resampled resample(const Predictions& of, double alpha, std::uint64_t seed, Statistic statistic) {
  const std::size_t rows = rows_of(of);
  const double estimate = statistic({});
  const Resampled nothing{{estimate, kUnknown, kUnknown}, 1};
  if (std::isnan(estimate) || rows < kFewestResampled) return nothing;
  if (rows > kMostRowsResampled || is_near_normal(of))
    return normal_around(estimate, standard_error(rows, seed, statistic), alpha);
  const std::vector<double> found = bootstrap(rows, seed, statistic, kResamples);
  if (found.empty()) return nothing;
  const auto above = std::ranges::upper_bound(found, 0.0);
  const double not_positive = static_cast<double>(above - found.begin()) + 1;
  const double beyond = expanded(alpha, rows);
  return {{estimate, percentile(found, beyond), percentile(found, 1 - beyond)},
          not_positive / (static_cast<double>(found.size()) + 1)};
}

// P(at most `lost` of `lost + won`) where both are as likely.
double mcnemar(std::uint64_t won, std::uint64_t lost) {
  if (won + lost == 0) return 1;
  const boost::math::binomial_distribution<> fair(static_cast<double>(won + lost), 0.5);
  return boost::math::cdf(fair, static_cast<double>(lost));
}

Comparison compare_labels(const ClassPredictions& champion, const ClassPredictions& challenger,
                          double alpha) {
  std::uint64_t won = 0;
  std::uint64_t lost = 0;
  std::vector<double> differences(champion.rows());
  for (std::size_t row = 0; row < champion.rows(); ++row) {
    const bool before = champion.label(row) == champion.truth[row];
    const bool after = challenger.label(row) == challenger.truth[row];
    won += !before && after ? 1 : 0;
    lost += before && !after ? 1 : 0;
    differences[row] = static_cast<double>(after) - static_cast<double>(before);
  }
  return {of_mean(differences, normal_quantile(1 - alpha)), mcnemar(won, lost)};
}

bool same_rows(const Predictions& one, const Predictions& other) {
  if (one.index() != other.index()) return false;
  const auto* classes = std::get_if<ClassPredictions>(&one);
  if (classes == nullptr)
    return std::get<ValuePredictions>(one).truth == std::get<ValuePredictions>(other).truth;
  const auto& others = std::get<ClassPredictions>(other);
  return classes->truth == others.truth && classes->classes == others.classes;
}

// Resamples of a perfect score are perfect, however few: what is sure of it is what as many hits
// are as the rarest class has rows.
double wilson_of_rarest(const ClassPredictions& classes, double z) {
  std::vector<std::size_t> counts(classes.classes);
  for (const std::uint32_t label : classes.truth) ++counts[label];
  std::erase(counts, 0);
  const auto rows = static_cast<double>(counts.empty() ? 0 : std::ranges::min(counts));
  return rows > 0 ? wilson(rows, rows, z).low : 0;
}

}  // namespace

Interval interval(Metric metric, const Predictions& predictions, double alpha, std::uint64_t seed) {
  const double z = normal_quantile(1 - alpha);
  const double of_few = student_quantile(1 - alpha, rows_of(predictions));
  const auto* classes = std::get_if<ClassPredictions>(&predictions);
  switch (metric) {
    case Metric::Accuracy: {
      const std::vector<double> hits = contributions(metric, predictions);
      return wilson(std::accumulate(hits.begin(), hits.end(), 0.0),
                    static_cast<double>(hits.size()), z);
    }
    case Metric::LogLoss:
    case Metric::Mae:
      return of_mean(contributions(metric, predictions), of_few);
    case Metric::RecallAt10:
    case Metric::NdcgAt10:
      return of_shares(contributions(metric, predictions), z);
    case Metric::Rmse: {
      const Interval square = of_mean(contributions(metric, predictions), of_few);
      return {std::sqrt(square.estimate), std::sqrt(std::max(0.0, square.low)),
              std::sqrt(square.high)};
    }
    case Metric::Auc:
      if (classes->classes == 2) return delong(*classes, z);
      break;
    default:
      break;
  }
  const Scorer scorer(metric, predictions);
  Interval found = resample(predictions, alpha, seed, [&](std::span<const std::uint32_t> weights) {
                     return scorer(weights);
                   }).bounds;
  if (classes != nullptr && found.low >= 1) found.low = wilson_of_rarest(*classes, z);
  // What is resampled here lies below 1, shares above 0; normal bounds do not know it.
  if (metric != Metric::R2 && !std::isnan(found.low)) found.low = std::max(found.low, 0.0);
  if (!std::isnan(found.high)) found.high = std::min(found.high, 1.0);
  return found;
}

namespace {

// One end of a figure between 0 and 1, `ratio` times as far from the estimate in log-odds. Of a
// perfect score Wilson's interval has odds of z² / n.
double share_end(double estimate, double end, double ratio) {
  const auto odds = [](double share) { return share / (1 - share); };
  const auto share = [](double some) { return some / (1 + some); };
  if (estimate == end || end <= 0 || end >= 1) return end;
  if (estimate >= 1) return 1 - share(odds(1 - end) * ratio * ratio);
  if (estimate <= 0) return share(odds(end) * ratio * ratio);
  return share(odds(estimate) * std::pow(odds(end) / odds(estimate), ratio));
}

double end_at(Metric metric, double estimate, double end, double ratio) {
  switch (metric) {
    case Metric::Rmse: {
      const double square = estimate * estimate + ratio * (end * end - estimate * estimate);
      return std::sqrt(std::max(0.0, square));
    }
    case Metric::LogLoss:
    case Metric::Mae:
      return estimate + ratio * (end - estimate);
    case Metric::R2:  // what is left of the variance, in logarithms
      if (estimate >= 1 || end >= 1) return end;
      return 1 - (1 - estimate) * std::pow((1 - end) / (1 - estimate), ratio);
    default:
      return share_end(estimate, end, ratio);
  }
}

}  // namespace

Interval at_alpha(Metric metric, const Interval& of, double from, double to) {
  const double ratio = normal_quantile(1 - to) / normal_quantile(1 - from);
  return {of.estimate, end_at(metric, of.estimate, of.low, ratio),
          end_at(metric, of.estimate, of.high, ratio)};
}

double pessimistic(Metric metric, const Interval& of) {
  return info(metric).higher_is_better ? of.low : of.high;
}

bool reaches(Metric metric, double value, double goal) {
  return info(metric).higher_is_better ? value >= goal : value <= goal;
}

std::optional<std::uint64_t> rows_to_decide(const Interval& of, double goal, std::uint64_t rows) {
  const double distance = std::abs(of.estimate - goal);
  const double half = of.estimate < goal ? of.high - of.estimate : of.estimate - of.low;
  if (!(distance > 0) || !std::isfinite(half)) return std::nullopt;
  const double needed = std::round(static_cast<double>(rows) * std::pow(half / distance, 2));
  if (!(needed < 1e15)) return std::nullopt;
  return static_cast<std::uint64_t>(needed);
}

namespace {

// The challenger's score less the champion's, positive where it is better; of weighted rows.
class ScoreDifference {
 public:
  ScoreDifference(Metric metric, const Predictions& champion, const Predictions& challenger)
      : before_(metric, champion),
        after_(metric, challenger),
        sign_(info(metric).higher_is_better ? 1 : -1) {}
  double operator()(std::span<const std::uint32_t> weights) const {
    return sign_ * (after_(weights) - before_(weights));
  }

 private:
  Scorer before_, after_;
  double sign_;
};

std::unexpected<Error> other_rows() {
  return fail(Code::InvalidArgument, "the two were not asked about the same rows");
}

}  // namespace

Result<Comparison> compare(Metric metric, const Predictions& champion,
                           const Predictions& challenger, double alpha, std::uint64_t seed) {
  if (!same_rows(champion, challenger)) return other_rows();
  if (metric == Metric::Accuracy) {
    return compare_labels(std::get<ClassPredictions>(champion),
                          std::get<ClassPredictions>(challenger), alpha);
  }
  const ScoreDifference difference(metric, champion, challenger);
  const Resampled found =
      resample(champion, alpha, seed,
               [&](std::span<const std::uint32_t> weights) { return difference(weights); });
  return Comparison{found.bounds, found.share_not_positive};
}

Result<Comparison> compare_one_of_many(Metric metric, const Predictions& champion,
                                       const Predictions& challenger, double alpha,
                                       std::uint64_t seed) {
  if (metric == Metric::Accuracy) return compare(metric, champion, challenger, alpha, seed);
  if (!same_rows(champion, challenger)) return other_rows();
  const ScoreDifference difference(metric, champion, challenger);
  const double estimate = difference({});
  if (std::isnan(estimate)) return Comparison{{kUnknown, kUnknown, kUnknown}, kUnknown};
  const double error =
      standard_error(rows_of(champion), seed,
                     [&](std::span<const std::uint32_t> weights) { return difference(weights); });
  const Resampled found = normal_around(estimate, error, alpha);
  return Comparison{found.bounds, found.share_not_positive};
}

}  // namespace mayfly::validation
