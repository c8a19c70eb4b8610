// The judgement: a pure function from where a rollout stands to what happens next, with the numbers
// that say why. It may be asked after every request or once a minute; looking often harms nothing
// (sequential.h), and the same snapshot always gets the same answer.
//
// Each check makes findings, each finding has a verdict, and the gravest verdict decides:
//
//   RollBack  errors or times are shown to be worse than the margin tolerates (the lower confidence
//             bound of the difference exceeds it); outputs that are not finite, constant or out of
//             their range; silence beyond silence_limit with on_silence = "rollback"
//   Hold      paused; min_time or min_samples not reached; an estimate from min_samples lies beyond
//             its margin without proof either way; a shift that nobody approved; with pass_on =
//             "proof" what is not yet proved harmless
//   Show      worth a look, decides nothing
//   Pass
//
// So a step is passed once min_samples and min_time are reached, no harm is shown and none is
// indicated. It is not proved that there is none unless pass_on = "proof": with the defaults, proof
// of an error rate within 1 % takes thousands of requests in every step; what the early steps bound
// is how many callers an undetected fault can meet. An indication does not stay open: more samples
// move the estimate below the margin or the lower bound above it. At 100 % the champion's numbers
// grow no more, so there indications and missing proof are shown and do not hold.
//
// How soon, with the defaults, as many requests of the champion and a look every 20: 30 % errors
// against none within 200 requests of each, 10 % against 5 % within 6,000; 30 % more run time
// within 1,000, twice the run time within 100 (log-normal, p95 at 1.6 medians). judge_test.cc holds
// these.
//
// Harm rolls back at once, before min_time and min_samples, and whatever a person approved or
// paused. Approval lifts holds for shifts and nothing else.
//
// Where nothing but samples lacks and the rollout has waited for max_wait, held-out rows stand in
// for requests: what both versions made of them is judged alike, and that judgement decides, in
// this step and in those that follow it. What requests show comes first nevertheless: their harm
// rolls back, and a step that has enough of them is passed by them. Errors and outputs count for
// each row once, however often it is asked about: an estimate beyond its margin that so many rows
// do not prove holds for a person. Times are had again and again: of those it is assumed that
// chance is drawn anew each time, and what they show holds for these rows, each as often as any
// other.
//
// alpha is shared out evenly over the steps of the plan and the held-out rows, and the
// kSequentialTests of each, so it bounds false rollbacks by sequential tests over the whole
// rollout. Ranges and finiteness are absolute: one value is enough. A shift is a comparison of
// estimates from min_samples, not a test: what it costs is a look by a person.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rollout/plan.h"
#include "rollout/sequential.h"
#include "rollout/snapshot.h"

namespace mayfly::rollout {

// In the order of gravity.
enum class Verdict : std::uint8_t { Pass, Show, Hold, RollBack };
std::string_view to_string(Verdict verdict);

enum class Check : std::uint8_t {
  Paused,
  Time,        // seconds in the step against min_time
  Samples,     // requests against min_samples
  Errors,      // shares of requests
  RunTime,     // nanoseconds; subject "p50 hot": quantile and start tier
  StartTime,   // nanoseconds; subject "p50 cold"
  NonFinite,   // shares of replies; subject: the output, as below
  Constant,    // shares of replies that are the commonest one
  OutOfRange,  // the value that lies furthest out
  Shift,       // means; difference and margin in standard deviations
  Agreement,   // shares of shadow replies
};
inline constexpr std::size_t kChecks = 11;
std::string_view slug(Check check);  // "run_time"

struct Finding {
  Check check = Check::Samples;
  std::string subject = {};  // empty where there is but one
  double champion = 0;
  double challenger = 0;
  double difference = 0;  // the estimate; relative for times
  Bounds bounds = {};     // of the difference, where a sequential test was made; else both equal it
  double margin = 0;
  Verdict verdict = Verdict::Pass;
  std::string text = {};  // one line for people, with the numbers
};

enum class Move : std::uint8_t {
  Hold,
  Promote,   // enter `step` (enter_step of snapshot.h)
  RollBack,  // all traffic to the champion, for good
  Done,      // the last step is passed: the challenger is the champion
};
std::string_view to_string(Move move);

enum class Basis : std::uint8_t { Requests, HeldOutRows };
std::string_view to_string(Basis basis);

struct Decision {
  Move move = Move::Hold;
  Basis basis = Basis::Requests;
  // Held-out rows would decide: nobody was asked about them yet, or not often enough to tell slower
  // from chance.
  bool wants_rows = false;
  std::uint32_t step = 0;  // where the rollout is after the move
  std::string why = {};    // the texts of the findings that decided
  // The texts of those that hold until a person decides, or enough requests come where none did: a
  // pause, a shift, and what held-out rows indicate and cannot prove. Empty: time, the requests
  // there are or more rows may lift what holds.
  std::string held = {};
  std::vector<Finding> findings = {};
};

// A step beyond the plan's is judged as the last one.
Decision judge(const RolloutPlan& plan, const RolloutSnapshot& snapshot);

// For the record. Numbers that are not finite are null.
std::string to_json(const Decision& decision);

// Errors, run time p50 and p95 in three tiers, start time in two, constant outputs.
inline constexpr double kSequentialTests = 10;

}  // namespace mayfly::rollout
