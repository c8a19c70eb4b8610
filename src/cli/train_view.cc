#include "cli/train_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/table.h"

namespace mayfly {
namespace {

constexpr int kGoalNotReachedExit = 9;
constexpr int kDataTooSmallExit = 10;

CliJson at(const CliJson& json, const char* key) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  return json.is_object() && found != json.end() ? *found : CliJson();
}

std::string text_at(const CliJson& json, const char* key) {
  const CliJson found = at(json, key);
  return found.is_string() ? found.get<std::string>() : "";
}

std::uint64_t count_at(const CliJson& json, const char* key) {
  const CliJson found = at(json, key);
  return found.is_number_unsigned() ? found.get<std::uint64_t>() : 0;
}

std::string number(const CliJson& json) {
  return json.is_number() ? fmt::format("{:.4g}", json.get<double>()) : "-";
}

// "0.781 (0.742 to 0.815)"
std::string figure(const CliJson& metric) {
  std::string text = number(at(metric, "value"));
  if (at(metric, "low").is_number() && at(metric, "high").is_number())
    text += fmt::format(" ({} to {})", number(at(metric, "low")), number(at(metric, "high")));
  return text;
}

std::string joined(const CliJson& list, const char* between) {
  std::string text;
  for (const CliJson& item : list)
    text +=
        (text.empty() ? "" : between) + (item.is_string() ? item.get<std::string>() : item.dump());
  return text;
}

std::string search_line(const CliJson& plan, const CliJson& train) {
  const CliJson halving = at(plan, "halving");
  const std::uint64_t trials = count_at(halving, "trials");
  std::string line = text_at(train, "trainer");
  if (!text_at(train, "function").empty()) line += " " + text_at(train, "function");
  if (trials <= 1) return line + fmt::format(", seed {}", at(train, "seed").dump());
  const CliJson rungs = at(halving, "rungs");
  line += fmt::format(", {} trials", trials);
  if (rungs.is_array() && rungs.size() > 1)
    line += fmt::format(" in rungs of {} rounds", joined(rungs, ", "));
  if (text_at(plan, "sampler") == "tpe") line += " by tpe";
  std::string varied;
  for (const auto& [name, range] : at(plan, "space").items())
    varied += (varied.empty() ? "" : ", ") + name;
  const std::string before = text_at(at(plan, "warm_start"), "version");
  if (!before.empty()) varied += fmt::format("; trial 1 as {} was", before);
  return line + fmt::format(", over {}; seed {}", varied, at(train, "seed").dump());
}

std::string budget_line(const CliJson& plan) {
  const CliJson budget = at(plan, "budget");
  std::string line;
  const auto add = [&](const std::string& text) { line += (line.empty() ? "" : ", ") + text; };
  if (budget.contains("trials")) add(fmt::format("{} trials", count_at(budget, "trials")));
  if (budget.contains("time")) add(text_at(budget, "time"));
  if (budget.contains("cost")) add("a cost of " + number(at(budget, "cost")));
  return line.empty() ? "one training, to its end" : line;
}

std::string left_out_line(const CliJson& plan) {
  std::string line;
  for (const CliJson& one : at(plan, "left_out"))
    line += fmt::format("{}{} ({})", line.empty() ? "" : ", ", text_at(one, "column"),
                        text_at(one, "why"));
  return line.empty() ? "none" : line;
}

std::string line_of(const char* key, const std::string& text) {
  return fmt::format("{:10} {}\n", key, text);
}

}  // namespace

std::string plan_text(const CliJson& job) {
  const CliJson plan = at(job, "training");
  const CliJson train = at(plan, "train");
  const CliJson data = at(plan, "data");
  const CliJson rows = at(plan, "rows");
  std::string text;
  text += line_of("data", fmt::format("{}@{}: {} rows to train on, {} to validate with, {} locked "
                                      "for the test",
                                      text_at(data, "dataset"), count_at(data, "snapshot"),
                                      human_count(count_at(rows, "train")),
                                      human_count(count_at(rows, "valid")),
                                      human_count(count_at(rows, "test"))));
  text += line_of("task", fmt::format("{}: {}", text_at(train, "task"), text_at(plan, "why")));
  if (!text_at(train, "target").empty()) text += line_of("target", text_at(train, "target"));
  const CliJson goal = at(plan, "goal");
  text += line_of("metric", goal.is_object()
                                ? fmt::format("{}, to be {} {}", text_at(plan, "metric"),
                                              text_at(goal, "direction"), number(at(goal, "at")))
                                : text_at(plan, "metric"));
  text += line_of("left out", left_out_line(plan));
  text += line_of("trainer", search_line(plan, train));
  if (const std::uint64_t workers = count_at(train, "workers"); workers > 1)
    text += line_of("workers", fmt::format("{} share the rows of a trial; threads of each: {}",
                                           workers, count_at(train, "threads")));
  if (at(plan, "interruptible") == false)
    text += line_of("slices", fmt::format("one: {} cannot be interrupted, and begins again when it "
                                          "is killed; only the job's own time bounds it",
                                          text_at(train, "trainer")));
  if (text_at(train, "trainer") == "function")
    text += line_of("slices",
                    "one, which begins again when it is killed, unless train(ctx) makes "
                    "checkpoints; only the job's own time bounds it");
  text += line_of("budget", budget_line(plan));
  return text + line_of("job", text_at(job, "id"));
}

std::string training_text(const CliJson& job) {
  const CliJson result = at(job, "result");
  const CliJson best = at(result, "best");
  const std::string metric = text_at(at(job, "training"), "metric");
  std::string text = fmt::format("{}: {}\n\n", text_at(result, "outcome"), text_at(result, "why"));
  Table table({"MODEL", "VALIDATION " + metric, "TEST " + metric});
  const CliJson test = at(result, "test");
  table.add({fmt::format("trial {}", count_at(best, "trial")),
             figure(at(at(best, "metrics"), metric.c_str())),
             figure(at(at(test, "metrics"), metric.c_str()))});
  for (const auto& [name, baseline] : at(result, "baselines").items()) {
    table.add({name, figure(at(at(baseline, "valid"), metric.c_str())),
               figure(at(at(baseline, "test"), metric.c_str()))});
  }
  text += table.str();
  const CliJson cost = at(result, "cost");
  text += fmt::format("\nresults of trials: {} ({} ended the search); {} s of CPU, cost {}",
                      count_at(result, "trials"), text_at(result, "search"),
                      number(at(cost, "cpu_s")), number(at(cost, "amount")));
  if (test.is_object())
    text += fmt::format("; look {} at the {} test rows", count_at(test, "looks"),
                        human_count(count_at(test, "rows")));
  if (const CliJson params = at(best, "params"); !params.empty())
    text += fmt::format("\nbest parameters: {}", params.dump());
  if (result.contains("version")) {
    text += fmt::format("\nregistered as version {}", count_at(result, "version"));
    if (const CliJson gate = at(result, "gate"); gate.is_object()) {
      const bool passed = gate.value("passed", false);
      text += fmt::format("\nthe gate {}: {}", passed ? "lets it pass" : "does not let it pass",
                          text_at(gate, "why"));
    }
    if (const CliJson rollout = at(job, "rollout"); text_at(rollout, "state") != "none") {
      const std::string reason = text_at(rollout, "why");
      text += fmt::format("\nits rollout: {}{}{}", text_at(rollout, "state"),
                          reason.empty() ? "" : ": ", reason);
    }
  } else if (const CliJson why = at(result, "registration"); why.is_object()) {
    text += fmt::format("\nnot registered: {}", text_at(why, "error"));
  } else {
    text += fmt::format("\nnot registered; the model stays with the job: mayfly jobs get {}",
                        text_at(job, "id"));
  }
  return text + "\n";
}

std::string curve_text(const std::vector<CurvePoint>& points, CurveSize size) {
  std::vector<CurvePoint> seen;
  for (const CurvePoint& point : points)
    if (std::isfinite(point.first) && std::isfinite(point.second)) seen.push_back(point);
  if (seen.size() < 2 || size.width == 0 || size.height == 0) return "";
  const auto [first, last] = std::ranges::minmax(seen, {}, &CurvePoint::first);
  const auto [least, most] = std::ranges::minmax(seen, {}, &CurvePoint::second);
  const auto place = [](double value, double low, double high, std::size_t cells) {
    const double share = high > low ? (value - low) / (high - low) : 0.5;
    return static_cast<std::size_t>(std::lround(share * static_cast<double>(cells - 1)));
  };
  std::vector<std::vector<bool>> marks(size.height, std::vector<bool>(size.width));
  for (const CurvePoint& point : seen) {
    const std::size_t row = place(point.second, least.second, most.second, size.height);
    marks[size.height - 1 - row][place(point.first, first.first, last.first, size.width)] = true;
  }
  std::string text;
  for (std::size_t row = 0; row < size.height; ++row) {
    const std::string label = row == 0                 ? fmt::format("{:.4g}", most.second)
                              : row + 1 == size.height ? fmt::format("{:.4g}", least.second)
                                                       : "";
    text += fmt::format("{:>10} │", label);
    for (const bool mark : marks[row]) text += mark ? "•" : " ";
    text += "\n";
  }
  return text +
         fmt::format("{:>10} └{:<{}.6g}{:.6g}\n", "", first.first, size.width - 6, last.first);
}

int exit_of_training(const CliJson& job) {
  const std::string outcome = text_at(at(job, "result"), "outcome");
  if (outcome == "goal_not_reached") return kGoalNotReachedExit;
  return outcome == "data_too_small" ? kDataTooSmallExit : 0;
}

}  // namespace mayfly
