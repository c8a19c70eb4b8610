// Standing, errors and times.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/units.h"
#include "rollout/checks.h"

namespace mayfly::rollout {
namespace {

double as_real(std::uint64_t count) { return static_cast<double>(count); }

std::string time_text(double ns) {
  if (!std::isfinite(ns)) return "unknown";
  if (ns >= 1e9) return fmt::format("{:.3g} s", ns / 1e9);
  if (ns >= 1e6) return fmt::format("{:.3g} ms", ns / 1e6);
  return fmt::format("{:.3g} µs", ns / 1e3);
}

std::string bound_text(double bound) {
  return std::isfinite(bound) ? fmt::format("{:+.3g} %", 100 * bound) : "unknown";
}

std::string_view ending(Verdict verdict) {
  if (verdict == Verdict::RollBack) return ": worse";
  return verdict == Verdict::Pass ? "" : ": not clear";
}

// "at least +1 %, at most +3 %, tolerated +2 %: worse"
std::string judged_text(const Finding& finding) {
  return fmt::format("at least {}, at most {}, tolerated {}{}", bound_text(finding.bounds.low),
                     bound_text(finding.bounds.high), bound_text(finding.margin),
                     ending(finding.verdict));
}

enum class Samples : std::uint8_t { Few, Enough };

Verdict weigh(const Bench& bench, const Finding& finding, Samples samples) {
  if (finding.bounds.low > finding.margin) return Verdict::RollBack;
  if (samples == Samples::Few) return Verdict::Pass;
  const bool proved = finding.bounds.high <= finding.margin;
  const bool wanted = bench.plan.pass_on == PassOn::Proof;
  if (finding.difference <= finding.margin && (proved || !wanted)) return Verdict::Pass;
  return bench.last() ? Verdict::Show : Verdict::Hold;
}

Finding finding_of(Check check, const Comparison& seen) {
  return {.check = check,
          .champion = seen.champion,
          .challenger = seen.challenger,
          .difference = seen.difference,
          .bounds = seen.bounds};
}

struct Times {
  Check check;
  const LogHistogram& champion;
  const LogHistogram& challenger;
  StartTier tier;
};

void compare_times(const Bench& bench, const Times& times, double share, Findings& findings) {
  if (times.champion.count() == 0 || times.challenger.count() == 0) return;
  const Comparison seen = compare_quantiles(times.champion, times.challenger, share, bench.alpha);
  Finding finding = finding_of(times.check, seen);
  const auto floor = static_cast<double>(bench.plan.latency_floor.count());
  finding.margin = std::max(bench.plan.latency_margin, floor / seen.champion_high);
  const bool enough = bench.enough(times.champion.count(), times.challenger.count());
  finding.verdict = weigh(bench, finding, enough ? Samples::Enough : Samples::Few);
  finding.subject = fmt::format("p{:.0f} {}", 100 * share, to_string(times.tier));
  finding.text =
      fmt::format("{} time {}: {} against the champion's {}; {}",
                  times.check == Check::RunTime ? "run" : "start", finding.subject,
                  time_text(seen.challenger), time_text(seen.champion), judged_text(finding));
  findings.push_back(std::move(finding));
}

Finding samples_finding(const Bench& bench) {
  const auto& [plan, snapshot, step, alpha] = bench;
  const std::uint64_t champion = snapshot.champion.requests;
  const std::uint64_t challenger = snapshot.challenger.requests;
  const bool enough = bench.enough(bench.last() ? plan.min_samples : champion, challenger);
  const bool over = plan.on_silence == OnSilence::RollBack && !snapshot.paused &&
                    snapshot.time_in_step >= plan.silence_limit;
  Finding finding{.check = Check::Samples,
                  .champion = as_real(champion),
                  .challenger = as_real(challenger),
                  .margin = as_real(plan.min_samples)};
  if (!enough) finding.verdict = over ? Verdict::RollBack : Verdict::Hold;
  finding.text =
      fmt::format("samples: {}, the champion {}, of {}", challenger, champion, plan.min_samples);
  return finding;
}

}  // namespace

void check_standing(const Bench& bench, Findings& findings) {
  const auto& [plan, snapshot, step, alpha] = bench;
  if (snapshot.paused) {
    findings.push_back({.check = Check::Paused, .verdict = Verdict::Hold, .text = "paused"});
  }
  const auto seconds = [](Duration time) { return std::chrono::duration<double>(time).count(); };
  const bool long_enough = snapshot.time_in_step >= plan.min_time;
  findings.push_back({.check = Check::Time,
                      .challenger = seconds(snapshot.time_in_step),
                      .margin = seconds(plan.min_time),
                      .verdict = long_enough ? Verdict::Pass : Verdict::Hold,
                      .text = fmt::format("time: {:.0f} s of {}", seconds(snapshot.time_in_step),
                                          mayfly::to_string(plan.min_time))});
  findings.push_back(samples_finding(bench));
}

void check_errors(const Bench& bench, Findings& findings) {
  const Tally champion = bench.snapshot.champion.error_tally();
  const Tally challenger = bench.snapshot.challenger.error_tally();
  Finding finding = finding_of(Check::Errors, compare_rates(champion, challenger, bench.alpha));
  finding.margin = bench.plan.error_margin;
  const bool enough = bench.enough(champion.count, challenger.count);
  finding.verdict = weigh(bench, finding, enough ? Samples::Enough : Samples::Few);
  finding.text =
      fmt::format("errors: {:.3g} % against the champion's {:.3g} %; {}", 100 * finding.challenger,
                  100 * finding.champion, judged_text(finding));
  findings.push_back(std::move(finding));
}

void check_times(const Bench& bench, Findings& findings) {
  const Evidence& champion = bench.snapshot.champion;
  const Evidence& challenger = bench.snapshot.challenger;
  for (std::size_t i = 0; i < Evidence::kTiers.size(); ++i) {
    const StartTier tier = Evidence::kTiers.at(i);
    const Times run{Check::RunTime, champion.run.at(i), challenger.run.at(i), tier};
    compare_times(bench, run, 0.5, findings);
    compare_times(bench, run, 0.95, findings);
    const Times start{Check::StartTime, champion.start.at(i), challenger.start.at(i), tier};
    compare_times(bench, start, 0.5, findings);
  }
}

void check_agreement(const Bench& bench, Findings& findings) {
  const Agreement& agreement = bench.snapshot.challenger.agreement;
  if (agreement.compared == 0) return;
  const double share = Tally{agreement.compared, agreement.agreed}.rate();
  findings.push_back(
      {.check = Check::Agreement,
       .champion = 1,
       .challenger = share,
       .difference = share - 1,
       .bounds = {share - 1, share - 1},
       .verdict = agreement.agreed < agreement.compared ? Verdict::Show : Verdict::Pass,
       .text = fmt::format("agreement: {} of {} replies as the champion's; largest "
                           "difference {:.4g}",
                           agreement.agreed, agreement.compared, agreement.max_difference)});
}

}  // namespace mayfly::rollout
