#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "rollout/checks.h"

namespace mayfly::rollout {
namespace {

struct Output {
  std::string_view name;
  const OutputEvidence& champion;  // empty where it never gave this output
  const OutputEvidence& challenger;
};

Finding output_finding(Check check, const Output& output, double champion, double challenger) {
  const double difference = challenger - champion;
  return {.check = check,
          .subject = std::string(output.name),
          .champion = champion,
          .challenger = challenger,
          .difference = difference,
          .bounds = {difference, difference}};
}

// Where the champion gives none, one is enough. Where it gives some too (masks of -inf, say), the
// share of replies with one may grow by the error margin.
void check_finite(const Bench& bench, const Output& output, Findings& findings) {
  const Tally old_replies{output.champion.replies, output.champion.non_finite_replies};
  const Tally new_replies{output.challenger.replies, output.challenger.non_finite_replies};
  if (new_replies.hits == 0) return;
  Finding finding =
      output_finding(Check::NonFinite, output, old_replies.rate(), new_replies.rate());
  finding.margin = old_replies.hits == 0 ? 0 : bench.plan.error_margin;
  const bool judged = old_replies.hits == 0 || bench.enough(old_replies.count, new_replies.count);
  const bool worse = judged && finding.difference > finding.margin;
  finding.verdict = worse ? Verdict::RollBack : Verdict::Show;
  finding.text = fmt::format(
      "output {}: {} of {} replies hold values that are not finite, the champion's {} of {}",
      output.name, new_replies.hits, new_replies.count, old_replies.hits, old_replies.count);
  findings.push_back(std::move(finding));
}

// All n replies are one. Had the challenger the champion's distribution, and q the share of its
// commonest reply, that had probability Σ p^n ≤ q^(n-1). q is bounded from above by a confidence
// sequence on the fullest slot, which holds the commonest reply and perhaps others. So a champion
// that says "no" to all but one in a thousand lets its challenger say "no" for a long time.
void check_constant(const Bench& bench, const Output& output, Findings& findings) {
  const OutputEvidence& champion = output.champion;
  const OutputEvidence& challenger = output.challenger;
  if (challenger.varied || !champion.varied) return;
  if (!bench.enough(champion.replies, challenger.replies)) return;
  const auto outputs = static_cast<double>(bench.snapshot.challenger.outputs.size());
  const double alpha = bench.alpha / outputs / 2;
  const Tally commonest{champion.replies, champion.commonest()};
  const double chance =
      static_cast<double>(challenger.replies - 1) * std::log(rate_bounds(commonest, alpha).high);
  Finding finding = output_finding(Check::Constant, output, commonest.rate(), 1);
  finding.verdict = chance < std::log(alpha) ? Verdict::RollBack : Verdict::Show;
  finding.text =
      fmt::format("output {}: all {} replies are the same, the champion's vary{}", output.name,
                  challenger.replies, finding.verdict == Verdict::Show ? "; it may be chance" : "");
  findings.push_back(std::move(finding));
}

void check_shift(const Bench& bench, const Output& output, Findings& findings) {
  const Moments& champion = output.champion.moments;
  const Moments& challenger = output.challenger.moments;
  if (champion.count == 0 || challenger.count == 0) return;
  const double effect = effect_size(champion, challenger);
  Finding finding = output_finding(Check::Shift, output, champion.mean, challenger.mean);
  finding.difference = effect;
  finding.bounds = {effect, effect};
  finding.margin = bench.plan.effect_size;
  const bool enough = bench.enough(output.champion.replies, output.challenger.replies);
  const bool shifted = enough && effect > finding.margin;
  const bool holds = bench.plan.on_shift == OnShift::Hold && !bench.snapshot.approved;
  if (shifted) finding.verdict = holds ? Verdict::Hold : Verdict::Show;
  finding.text = fmt::format(
      "output {}: mean {:.4g} against the champion's {:.4g}, {:.3g} standard deviations of "
      "{:.3g}{}",
      output.name, challenger.mean, champion.mean, effect, finding.margin,
      finding.verdict == Verdict::Hold ? ": approve it or roll back" : "");
  findings.push_back(std::move(finding));
}

// "score" covers "score" and its columns "score[0]", "score[1]", …
bool covers(std::string_view range, std::string_view output) {
  return output.starts_with(range) &&
         (output.size() == range.size() || output.at(range.size()) == '[');
}

Finding range_finding(const Output& output, const OutputRange& range) {
  const Moments& values = output.challenger.moments;
  const bool below = values.low < range.low;
  const bool outside = values.count > 0 && (below || values.high > range.high);
  const double old_end = below ? output.champion.moments.low : output.champion.moments.high;
  Finding finding =
      output_finding(Check::OutOfRange, output, old_end, below ? values.low : values.high);
  finding.margin = below ? range.low : range.high;
  finding.verdict = outside ? Verdict::RollBack : Verdict::Pass;
  finding.text =
      fmt::format("output {}: values from {:.6g} to {:.6g}, {} [{:.6g}, {:.6g}]", output.name,
                  values.low, values.high, outside ? "outside" : "within", range.low, range.high);
  return finding;
}

void check_ranges(const Bench& bench, const std::vector<Output>& outputs, Findings& findings) {
  if (outputs.empty()) return;
  for (const auto& [name, range] : bench.plan.ranges) {
    bool seen = false;
    for (const Output& output : outputs) {
      if (!covers(name, output.name)) continue;
      findings.push_back(range_finding(output, range));
      seen = true;
    }
    if (seen) continue;
    findings.push_back({.check = Check::OutOfRange,
                        .subject = name,
                        .verdict = Verdict::Show,
                        .text = fmt::format("output {}: has a range but was never seen", name)});
  }
}

}  // namespace

void check_outputs(const Bench& bench, Findings& findings) {
  static const OutputEvidence kNone;
  const auto& old_outputs = bench.snapshot.champion.outputs;
  std::vector<Output> outputs;
  for (const auto& [name, challenger] : bench.snapshot.challenger.outputs) {
    const auto found = old_outputs.find(name);
    outputs.push_back({name, found == old_outputs.end() ? kNone : found->second, challenger});
  }
  for (const Output& output : outputs) {
    check_finite(bench, output, findings);
    check_constant(bench, output, findings);
    check_shift(bench, output, findings);
  }
  check_ranges(bench, outputs, findings);
}

}  // namespace mayfly::rollout
