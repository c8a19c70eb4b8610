#include "rollout/sequential.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

namespace mayfly::rollout {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// std::lgamma writes a global; this one does not.
double log_gamma(double x) {
  int sign = 0;
  return ::lgamma_r(x, &sign);
}

// log B(k + 1/2, n - k + 1/2) - log B(1/2, 1/2), the mixture's numerator; B(1/2, 1/2) is π.
double log_mixture(double n, double k) {
  return log_gamma(k + 0.5) + log_gamma(n - k + 0.5) - log_gamma(n + 1) -
         std::log(std::numbers::pi);
}

// -log of the likelihood of k of n at p.
double surprise(double n, double k, double p) {
  double sum = 0;
  if (k > 0) sum -= k * std::log(p);
  if (k < n) sum -= (n - k) * std::log1p(-p);
  return sum;
}

// The upper end of {p : M_n(p) < 1/α}, where the convex `surprise` reaches `level`. Newton's steps
// from outside never cross the end, so stopping early is conservative. They begin at the nearer of
// two points outside: by Pinsker's inequality, and by the failures' part of the surprise alone.
double upper_end(double n, double k, double level) {
  if (k >= n) return 1;
  const double rate = k / n;
  const double excess = std::max(level - surprise(n, k, rate), 0.0);
  double p = std::min(rate + std::sqrt(excess / (2 * n)), -std::expm1(-level / (n - k)));
  for (int i = 0; i < 60; ++i) {
    const double slope = (n - k) / (1 - p) - k / p;
    if (!(p > rate) || !(p < 1) || !(slope > 0)) break;
    const double step = (surprise(n, k, p) - level) / slope;
    if (!(step > 1e-12 * p)) break;
    p = std::max(p - step, rate);
  }
  return std::clamp(p, rate, 1.0);
}

double log_level(double n, double k, double alpha) {
  // What a mixture cannot exceed: rounding at huge counts must not turn the test around.
  const double best = std::min(log_mixture(n, k), -surprise(n, k, k / n));
  return -std::log(alpha) - best;
}

// Whether k hits of n reject the rate `share` at level alpha.
bool rejects(double n, double k, double share, double alpha) {
  return surprise(n, k, share) >= log_level(n, k, alpha);
}

// The fewest hits of n, and the most, that do not reject `share`. The martingale is convex in k
// with its minimum near n·share, so rejection is monotone on each side.
struct Ranks {
  std::uint64_t fewest = 0;
  std::uint64_t most = 0;
};

Ranks ranks(std::uint64_t n, double share, double alpha) {
  const auto real = static_cast<double>(n);
  const auto accepts = [&](std::uint64_t k) {
    return !rejects(real, static_cast<double>(k), share, alpha);
  };
  const auto middle = std::min(n, static_cast<std::uint64_t>(real * share));
  Ranks found{middle, middle};
  for (std::uint64_t low = 0; low < found.fewest;) {
    const std::uint64_t k = std::midpoint(low, found.fewest);
    if (accepts(k)) {
      found.fewest = k;
    } else {
      low = k + 1;
    }
  }
  for (std::uint64_t high = n; found.most < high;) {
    const std::uint64_t k = std::midpoint(high, found.most);  // rounds towards `high`
    if (accepts(k)) {
      found.most = k;
    } else {
      high = k - 1;
    }
  }
  return found;
}

double in_ns(Duration duration) { return static_cast<double>(duration.count()); }

double ratio(double over, double under) {
  if (under > 0) return over / under - 1;
  return over > 0 ? kInfinity : 0;
}

}  // namespace

double Tally::rate() const {
  return count == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(count);
}

Bounds rate_bounds(Tally tally, double alpha) {
  if (tally.count == 0) return {0, 1};
  const auto n = static_cast<double>(tally.count);
  const auto k = static_cast<double>(std::min(tally.hits, tally.count));
  const double level = log_level(n, k, alpha);
  return {1 - upper_end(n, n - k, level), upper_end(n, k, level)};
}

Bounds quantile_bounds(const LogHistogram& times, double share, double alpha) {
  if (times.count() == 0) return {0, kInfinity};
  const Ranks accepted = ranks(times.count(), share, alpha);
  // The quantile lies in the first bin j with F(j) ≥ share. F(j) ≥ share is not rejected from the
  // first bin on that has `fewest` below its end; F(j - 1) < share is not, up to the last bin that
  // has at most `most` before its begin.
  Bounds bounds{0, kInfinity};
  std::uint64_t seen = 0;
  bool low_found = accepted.fewest == 0;
  for (const auto& [bin, count] : times.bins()) {
    const std::uint64_t before = seen;
    seen += count;
    if (!low_found && seen >= accepted.fewest) {
      bounds.low = in_ns(LogHistogram::lower_edge(bin));
      low_found = true;
    }
    if (before <= accepted.most && seen > accepted.most) {
      bounds.high = in_ns(LogHistogram::lower_edge(bin + 1));
    }
  }
  return bounds;
}

Comparison compare_rates(Tally champion, Tally challenger, double alpha) {
  const Bounds old_bounds = rate_bounds(champion, alpha / 2);
  const Bounds new_bounds = rate_bounds(challenger, alpha / 2);
  return {.champion = champion.rate(),
          .challenger = challenger.rate(),
          .difference = challenger.rate() - champion.rate(),
          .bounds = {new_bounds.low - old_bounds.high, new_bounds.high - old_bounds.low},
          .champion_high = old_bounds.high};
}

Comparison compare_quantiles(const LogHistogram& champion, const LogHistogram& challenger,
                             double share, double alpha) {
  const Bounds old_bounds = quantile_bounds(champion, share, alpha / 2);
  const Bounds new_bounds = quantile_bounds(challenger, share, alpha / 2);
  const double old_time = in_ns(champion.quantile(share));
  const double new_time = in_ns(challenger.quantile(share));
  return {
      .champion = old_time,
      .challenger = new_time,
      .difference = ratio(new_time, old_time),
      .bounds = {ratio(new_bounds.low, old_bounds.high), ratio(new_bounds.high, old_bounds.low)},
      .champion_high = old_bounds.high};
}

}  // namespace mayfly::rollout
