#include "rollout/judge.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/json_reader.h"
#include "rollout/checks.h"

namespace mayfly::rollout {
namespace {

constexpr std::array<std::string_view, 4> kVerdicts = {"pass", "show", "hold", "rollback"};
constexpr std::array<std::string_view, 4> kMoves = {"hold", "promote", "rollback", "done"};
constexpr std::array<std::string_view, kChecks> kSlugs = {
    "paused",     "time",     "samples",      "errors", "run_time", "start_time",
    "non_finite", "constant", "out_of_range", "shift",  "agreement"};

template <typename Which>
std::string texts_of(const std::vector<Finding>& findings, const Which& which) {
  std::string texts;
  for (const Finding& finding : findings) {
    if (!which(finding)) continue;
    if (!texts.empty()) texts += "; ";
    texts += finding.text;
  }
  return texts;
}

bool is_time(Check check) { return check == Check::RunTime || check == Check::StartTime; }

// Whether it holds for want of requests and of nothing else.
bool lacks_requests(const Decision& decision) {
  return decision.move == Move::Hold &&
         std::ranges::all_of(decision.findings, [](const Finding& finding) {
           return finding.verdict != Verdict::Hold || finding.check == Check::Samples;
         });
}

// More times move such an estimate below its margin, or its bound above it. Of errors the same rows
// tell nothing new.
bool lacks_times(const Decision& decision) {
  return decision.move == Move::Hold &&
         std::ranges::any_of(decision.findings, [](const Finding& finding) {
           return finding.verdict == Verdict::Hold && is_time(finding.check);
         });
}

// Requests lift anything but a pause and a shift, but they do not come where rows stand in.
std::string held_by(const Decision& decision) {
  if (decision.move != Move::Hold) return "";
  const bool rows = decision.basis == Basis::HeldOutRows;
  return texts_of(decision.findings, [&](const Finding& finding) {
    if (finding.verdict != Verdict::Hold) return false;
    if (finding.check == Check::Paused || finding.check == Check::Shift) return true;
    return rows && !(is_time(finding.check) && decision.wants_rows);
  });
}

Decision conclude(const RolloutPlan& plan, std::uint32_t step, Findings findings) {
  const Verdict gravest = std::ranges::max(findings, {}, &Finding::verdict).verdict;
  Decision decision{.step = step};
  if (gravest == Verdict::RollBack || gravest == Verdict::Hold) {
    decision.move = gravest == Verdict::Hold ? Move::Hold : Move::RollBack;
    decision.why =
        texts_of(findings, [&](const Finding& finding) { return finding.verdict == gravest; });
  } else if (step + 1 == plan.steps.size()) {
    decision.move = Move::Done;
    decision.why = "passed the last step";
  } else {
    decision.move = Move::Promote;
    decision.step = step + 1;
    decision.why = fmt::format("passed {}", to_string(plan.steps.at(step)));
  }
  decision.findings = std::move(findings);
  decision.held = held_by(decision);
  return decision;
}

Json real_json(double number) { return std::isfinite(number) ? Json(number) : Json(nullptr); }

Json finding_json(const Finding& finding) {
  return {{"check", slug(finding.check)},
          {"subject", finding.subject},
          {"champion", real_json(finding.champion)},
          {"challenger", real_json(finding.challenger)},
          {"difference", real_json(finding.difference)},
          {"low", real_json(finding.bounds.low)},
          {"high", real_json(finding.bounds.high)},
          {"margin", real_json(finding.margin)},
          {"verdict", to_string(finding.verdict)},
          {"text", finding.text}};
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  return kVerdicts.at(static_cast<std::size_t>(verdict));
}
std::string_view to_string(Move move) { return kMoves.at(static_cast<std::size_t>(move)); }
std::string_view to_string(Basis basis) {
  return basis == Basis::Requests ? "requests" : "held-out rows";
}
std::string_view slug(Check check) { return kSlugs.at(static_cast<std::size_t>(check)); }

namespace {

Decision judge_evidence(const RolloutPlan& plan, const RolloutSnapshot& snapshot) {
  const auto steps = static_cast<std::uint32_t>(plan.steps.size());
  const std::uint32_t at = std::min(snapshot.step, steps - 1);
  const Bench bench{.plan = plan,
                    .snapshot = snapshot,
                    .step = plan.steps.at(at),
                    .alpha = plan.alpha / (kSequentialTests * (steps + 1))};
  Findings findings;
  check_standing(bench, findings);
  check_errors(bench, findings);
  check_times(bench, findings);
  check_outputs(bench, findings);
  check_agreement(bench, findings);
  return conclude(plan, at, std::move(findings));
}

}  // namespace

Decision judge(const RolloutPlan& plan, const RolloutSnapshot& snapshot) {
  Decision decision = judge_evidence(plan, snapshot);
  if (!lacks_requests(decision) || snapshot.waited + snapshot.time_in_step < plan.max_wait)
    return decision;
  if (!snapshot.held_out) {
    decision.wants_rows = true;
    return decision;
  }
  RolloutSnapshot instead = snapshot;
  instead.champion = snapshot.held_out->champion;
  instead.challenger = snapshot.held_out->challenger;
  decision = judge_evidence(plan, instead);
  decision.basis = Basis::HeldOutRows;
  decision.wants_rows = lacks_times(decision) && instead.challenger.timed() < kMostHeldOutTimes;
  decision.why += ", judged on held-out rows";
  decision.held = held_by(decision);
  return decision;
}

std::string to_json(const Decision& decision) {
  Json findings = Json::array();
  for (const Finding& finding : decision.findings) findings.push_back(finding_json(finding));
  return Json{{"move", to_string(decision.move)},
              {"judged_on", to_string(decision.basis)},
              {"step", decision.step},
              {"why", decision.why},
              {"findings", findings}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace mayfly::rollout
