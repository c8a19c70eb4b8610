#include "search/tpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <utility>
#include <vector>

namespace mayfly::search {
namespace {

constexpr std::uint32_t kCandidates = 24;
constexpr double kGoodShare = 0.1;
constexpr std::uint32_t kAttempts = 16;  // at a draw that lies inside
constexpr double kNarrowest = 0.01;
// A third is drawn, whatever was seen (Falkner, Klein, Hutter, ICML 2018, "BOHB"): what the first
// few miss is not missed for ever.
constexpr std::uint32_t kExploresEvery = 3;

// Random numbers of one parameter of one trial.
class Dice {
 public:
  Dice(std::uint64_t seed, std::uint32_t trial, std::string_view name)
      : seed_(seed), trial_(trial), name_(name) {}
  double roll() { return uniform(seed_, trial_, fmt::format("{}/{}", name_, ++rolls_)); }
  // Box and Muller 1958.
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - roll()));
    return radius * std::cos(2 * std::numbers::pi * roll());
  }

 private:
  std::uint64_t seed_;
  std::uint32_t trial_;
  std::string_view name_;
  std::uint32_t rolls_ = 0;
};

// A mixture on [0, 1): a normal of its own width around each value, and one part even.
class Parzen {
 public:
  explicit Parzen(std::vector<double> values) : centers_(std::move(values)) {
    std::ranges::sort(centers_);
    const double least =
        std::max(kNarrowest, 1.0 / static_cast<double>(std::min<std::size_t>(100, size() + 1)));
    for (std::size_t i = 0; i < size(); ++i) {
      const double before = centers_[i] - (i > 0 ? centers_[i - 1] : 0);
      const double behind = (i + 1 < size() ? centers_[i + 1] : 1) - centers_[i];
      widths_.push_back(std::clamp(std::max(before, behind), least, 1.0));
      inside_.push_back(mass_below(i, 1) - mass_below(i, 0));
    }
  }

  double draw(Dice& dice) const {
    const auto part = static_cast<std::size_t>(dice.roll() * static_cast<double>(size() + 1));
    if (part >= size()) return dice.roll();
    for (std::uint32_t attempt = 0; attempt < kAttempts; ++attempt) {
      const double drawn = centers_[part] + widths_[part] * dice.normal();
      if (drawn >= 0 && drawn < 1) return drawn;
    }
    return centers_[part];
  }

  double density(double at) const {
    double sum = 1;
    for (std::size_t i = 0; i < size(); ++i) {
      const double off = (at - centers_[i]) / widths_[i];
      sum += std::exp(-off * off / 2) / (widths_[i] * std::sqrt(2 * std::numbers::pi) * inside_[i]);
    }
    return sum / static_cast<double>(size() + 1);
  }

 private:
  std::size_t size() const { return centers_.size(); }
  double mass_below(std::size_t i, double at) const {
    return std::erfc((centers_[i] - at) / (widths_[i] * std::numbers::sqrt2)) / 2;
  }
  std::vector<double> centers_;
  std::vector<double> widths_;
  std::vector<double> inside_;  // of each normal, the share that lies on [0, 1)
};

// How often each choice was made, and each once more.
class Counts {
 public:
  Counts(std::size_t choices, const std::vector<double>& shares) : counts_(choices, 1) {
    for (const double share : shares) ++counts_[index_of(share)];
    sum_ = std::accumulate(counts_.begin(), counts_.end(), 0.0);
  }
  double draw(Dice& dice) const {
    double left = dice.roll() * sum_;
    std::size_t index = 0;
    while (index + 1 < counts_.size() && left >= counts_[index]) left -= counts_[index++];
    return (static_cast<double>(index) + 0.5) / static_cast<double>(counts_.size());
  }
  double density(double share) const { return counts_[index_of(share)] / sum_; }

 private:
  std::size_t index_of(double share) const {
    const auto count = static_cast<double>(counts_.size());
    return std::min(static_cast<std::size_t>(share * count), counts_.size() - 1);
  }
  std::vector<double> counts_;
  double sum_ = 0;
};

template <typename Density>
double most_promising(const Density& better, const Density& worse, Dice dice) {
  double best = 0;
  double most = -1;
  for (std::uint32_t i = 0; i < kCandidates; ++i) {
    const double candidate = better.draw(dice);
    const double promise = better.density(candidate) / worse.density(candidate);
    if (promise <= most) continue;
    most = promise;
    best = candidate;
  }
  return best;
}

std::vector<double> shares_of(const Parameter& parameter,
                              std::span<const Observation* const> seen) {
  std::vector<double> shares;
  for (const Observation* one : seen) {
    const auto found = one->point.find(parameter.name);
    if (found == one->point.end()) continue;
    if (const auto share = share_of(parameter, *found)) shares.push_back(*share);
  }
  return shares;
}

}  // namespace

Json propose(const Space& space, std::uint64_t seed, std::uint32_t number,
             std::span<const Observation> seen) {
  if (seen.size() > kMostObservations) seen = seen.last(kMostObservations);
  std::vector<const Observation*> ranked;
  for (const Observation& one : seen) ranked.push_back(&one);
  const auto failed =
      std::ranges::count_if(seen, [](const Observation& one) { return std::isnan(one.loss); });
  const std::size_t ended = seen.size() - static_cast<std::size_t>(failed);
  const bool explores = number % kExploresEvery == 0;
  if (explores || ended < kLeastObservations) return draw(space, seed, number);
  // The earlier of equals first, those that failed last.
  std::ranges::sort(ranked, {}, [](const Observation* one) {
    return std::pair(std::isnan(one->loss) ? std::numeric_limits<double>::infinity() : one->loss,
                     one);
  });
  const std::span all(ranked);
  const auto good = static_cast<std::size_t>(std::ceil(kGoodShare * static_cast<double>(ended)));
  Json point = Json::object();
  for (const Parameter& parameter : space) {
    const Dice dice(seed, number, parameter.name);
    std::vector<double> better = shares_of(parameter, all.first(good));
    std::vector<double> worse = shares_of(parameter, all.subspan(good));
    const auto* choice = std::get_if<Choice>(&parameter.range);
    const double share =
        choice != nullptr
            ? most_promising(Counts(choice->values.size(), better),
                             Counts(choice->values.size(), worse), dice)
            : most_promising(Parzen(std::move(better)), Parzen(std::move(worse)), dice);
    point[parameter.name] = value_at(parameter, share);
  }
  return point;
}

}  // namespace mayfly::search
