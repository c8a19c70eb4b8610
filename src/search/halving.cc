#include "search/halving.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "base/check.h"

namespace mayfly::search {
namespace {

constexpr std::uint32_t kControl = 0;
constexpr std::uint32_t kMostTrials = 100'000;
constexpr std::size_t kMostRungs = 16;
constexpr double kSlowest = 0.95;  // that a gain shrinks: a straight line would have no end

// NaN comes last.
bool is_better(double loss, double other) {
  if (std::isnan(other)) return !std::isnan(loss);
  return loss < other;
}

}  // namespace

double outlook(const std::array<double, 3>& curve, std::uint32_t rounds, std::uint32_t most) {
  const double before = curve[0] - curve[1];
  const double gained = curve[1] - curve[2];
  if (!(before > 0) || !(gained > 0) || most <= rounds) return curve[2];
  const double shrinks = std::min(gained / before, kSlowest);
  const double quarters = 4.0 * (most - rounds) / rounds;
  return curve[2] - gained * shrinks * (1 - std::pow(shrinks, quarters)) / (1 - shrinks);
}

Status check(const HalvingPlan& plan) {
  if (plan.trials == 0 || plan.trials > kMostTrials)
    return fail(Code::InvalidArgument, fmt::format("there are from 1 to {} trials", kMostTrials));
  if (plan.eta < 2) return fail(Code::InvalidArgument, "eta is at least 2");
  if (plan.resources.empty() || plan.resources.size() > kMostRungs || plan.resources.front() == 0)
    return fail(Code::InvalidArgument, fmt::format("there are from 1 to {} rungs", kMostRungs));
  if (std::ranges::adjacent_find(plan.resources, std::ranges::greater_equal()) !=
      plan.resources.end())
    return fail(Code::InvalidArgument, "each rung has more of the resource than the one before");
  return {};
}

Halving::Halving(HalvingPlan plan) : plan_(std::move(plan)), rungs_(plan_.resources.size()) {
  for (std::uint32_t trial = 0; trial < plan_.trials; ++trial)
    rungs_.front().line.push_back({.trial = trial});
}

std::optional<Work> Halving::next() {
  for (std::size_t rung = rungs_.size(); rung-- > 0;) {
    const auto waiting = std::ranges::find(rungs_[rung].line, State::Waiting, &Entry::state);
    if (waiting == rungs_[rung].line.end()) continue;
    waiting->state = State::Given;
    return Work{.trial = waiting->trial, .rung = static_cast<std::uint32_t>(rung)};
  }
  return std::nullopt;
}

void Halving::report(const Outcome& outcome) {
  auto& line = rungs_.at(outcome.work.rung).line;
  const auto entry = std::ranges::find(line, outcome.work.trial, &Entry::trial);
  CHECK(entry != line.end() && entry->state != State::Ended);
  entry->state = State::Ended;
  entry->loss = outcome.loss;
  entry->heading = outcome.heading.value_or(outcome.loss);
  settle();
}

// A promotion lengthens the line above, which changes nothing below.
void Halving::settle() {
  for (std::size_t rung = 0; rung + 1 < rungs_.size(); ++rung) {
    while (settle(rung)) {
    }
  }
}

// Counts the next of the line, if it has ended.
bool Halving::settle(std::size_t index) {
  Rung& rung = rungs_[index];
  if (rung.counted == rung.line.size() || rung.line[rung.counted].state != State::Ended)
    return false;
  Entry& counted = rung.line[rung.counted++];
  if (counted.trial == kControl && !std::isnan(counted.loss)) promote(index, counted);
  if (rung.promoted >= rung.counted / plan_.eta) return true;
  Entry* best = nullptr;
  for (Entry& entry : std::span(rung.line).first(rung.counted)) {
    if (entry.promoted || std::isnan(entry.loss)) continue;
    if (best == nullptr || is_better(entry.heading, best->heading)) best = &entry;
  }
  if (best == nullptr) return true;
  ++rung.promoted;
  promote(index, *best);
  return true;
}

void Halving::promote(std::size_t rung, Entry& entry) {
  entry.promoted = true;
  rungs_[rung + 1].line.push_back({.trial = entry.trial});
}

bool Halving::finished() const {
  return std::ranges::all_of(rungs_, [](const Rung& rung) {
    return std::ranges::all_of(rung.line,
                               [](const Entry& entry) { return entry.state == State::Ended; });
  });
}

std::optional<Outcome> Halving::best() const {
  for (std::size_t rung = rungs_.size(); rung-- > 0;) {
    std::optional<Outcome> best;
    for (const Entry& entry : rungs_[rung].line) {
      if (entry.state != State::Ended || std::isnan(entry.loss)) continue;
      if (best && !is_better(entry.loss, best->loss)) continue;
      best = Outcome{{entry.trial, static_cast<std::uint32_t>(rung)}, entry.loss};
    }
    if (best) return best;
  }
  return std::nullopt;
}

Halving Halving::replay(HalvingPlan plan, const std::vector<Outcome>& outcomes) {
  Halving search(std::move(plan));
  for (const Outcome& outcome : outcomes) search.report(outcome);
  return search;
}

}  // namespace mayfly::search
