// Tests that stay valid however often one looks: confidence sequences, intervals that hold at all
// sample sizes at once with the stated probability, so that one may look after every sample and
// stop whenever one likes.
//
// Rates. A version's errors are Bernoulli(p). Mixing the likelihood over a Beta(1/2, 1/2) prior,
//     M_n(p) = B(k + 1/2, n - k + 1/2) / B(1/2, 1/2) / (p^k (1 - p)^(n - k)),
// is a martingale with mean 1 under p (Robbins 1970, "Statistical methods related to the law of the
// iterated logarithm"; the beta-binomial mixture of Howard, Ramdas, McAuliffe, Sekhon 2021,
// "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49(2)).
// By Ville's inequality it ever reaches 1/α with probability at most α, so {p : M_n(p) < 1/α} holds
// at all n at once. The state is (n, k).
//
// Times. Nothing is assumed of the distribution: the count of durations below a fixed edge is
// Bernoulli, so the same martingale bounds a quantile by edges of the histogram (Howard & Ramdas
// 2022, "Sequential estimation of quantiles with applications to A/B testing and best-arm
// identification", Bernoulli 28(3)). Bounds are rounded outwards to bin edges (1.6 %).
//
// Two versions. Each gets a sequence of its own at half of α, and bounds are subtracted or divided.
// By the union bound that holds whatever ties the two together: shadow copies are the same
// requests, and traffic comes in any order. It costs samples against a joint test, never validity.
//
// Assumed: within one step, each version's requests are independent of each other with a constant
// rate or distribution. What hits both versions alike (a slow hour) widens nothing and is judged as
// long as both get their constant share of the traffic.
#pragma once

#include <cstdint>

#include "rollout/histogram.h"

namespace mayfly::rollout {

// `hits` of `count` trials.
struct Tally {
  std::uint64_t count = 0;
  std::uint64_t hits = 0;
  double rate() const;  // 0 without trials
};

// `high` may be infinite, `low` too.
struct Bounds {
  double low = 0;
  double high = 0;
};

// Of the rate. Both ends together hold with probability 1 - alpha.
Bounds rate_bounds(Tally tally, double alpha);

// Of the quantile in nanoseconds; 0 and infinity where the samples cannot tell. Each end holds with
// probability 1 - alpha.
Bounds quantile_bounds(const LogHistogram& times, double share, double alpha);

// The challenger seen from the champion. Each end of `bounds` holds with probability 1 - alpha:
// harm is shown once `low` exceeds the margin, and disproved once `high` lies below it.
struct Comparison {
  double champion = 0;
  double challenger = 0;
  double difference = 0;  // the estimate
  Bounds bounds;          // of the difference
  double champion_high = 0;
};

Comparison compare_rates(Tally champion, Tally challenger, double alpha);  // absolute difference
// Relative difference: 0.1 is 10 % slower. Times in nanoseconds.
Comparison compare_quantiles(const LogHistogram& champion, const LogHistogram& challenger,
                             double share, double alpha);

}  // namespace mayfly::rollout
