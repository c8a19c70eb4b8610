#include "cli/traffic_view.h"

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/table.h"

namespace mayfly {
namespace {

std::string share_text(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return "";
  return fmt::format("{:.1f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

void print_comparisons(const CliJson& comparisons) {
  if (comparisons.empty()) return;
  Table table({"SHADOW", "BESIDE", "COMPARED", "AGREED", "LABELS AGREED", "MAX DIFFERENCE",
               "FAILED", "DROPPED"});
  for (const CliJson& item : comparisons) {
    const auto number = [&](const char* key) { return item.value(key, 0ULL); };
    table.add({std::to_string(number("shadow")), std::to_string(number("version")),
               human_count(number("compared")), share_text(number("agreed"), number("compared")),
               share_text(number("labels_agreed"), number("labels")),
               fmt::format("{:.3g}", item.value("max_difference", 0.0)),
               human_count(number("failed")), human_count(number("dropped"))});
  }
  fmt::print("\n{}", table.str());
}

std::string steps_text(const CliJson& about) {
  const auto now = about.value("step", std::size_t{0});
  std::string text;
  for (std::size_t i = 0; i < about["steps"].size(); ++i) {
    const auto step = about["steps"][i].get<std::string>();
    text += fmt::format("{}{}", i == 0 ? "" : " → ", i == now ? "[" + step + "]" : step);
  }
  return text;
}

}  // namespace

void print_traffic(const CliJson& traffic) {
  Table table({"VERSION", "REQUESTS", "SHADOW", "ALIASES"});
  std::map<std::uint32_t, std::array<std::string, 3>> rows;
  const auto row = [&](const std::string& version) -> auto& {
    return rows[static_cast<std::uint32_t>(std::stoul(version))];
  };
  for (const auto& [version, percent] : traffic["weights"].items())
    row(version)[0] = fmt::format("{} %", percent.get<int>());
  for (const auto& [version, percent] : traffic["shadows"].items())
    row(version)[1] = fmt::format("{} %", percent.get<int>());
  const auto add_alias = [&](const std::string& name, std::uint32_t version) {
    std::string& names = rows[version][2];
    names += (names.empty() ? "" : ", ") + name;
  };
  add_alias("champion", traffic.value("champion", 0U));
  for (const auto& [name, version] : traffic["aliases"].items())
    add_alias(name, version.get<std::uint32_t>());
  for (const auto& [version, cells] : rows)
    table.add({std::to_string(version), cells[0], cells[1], cells[2]});
  fmt::print("{}", table.str());
  if (const auto header = traffic.value("sticky_header", ""); !header.empty())
    fmt::print("sticky by {}\n", header);
  print_comparisons(traffic["comparisons"]);
}

void print_running_rollout(const CliJson& about) {
  fmt::print("version {} beside version {}{}{}\n{}\n", about.value("version", 0),
             about.value("champion", 0), about.value("paused", false) ? ", paused" : "",
             about.value("approved", false) ? ", shift approved" : "", steps_text(about));
  fmt::print(
      "{:.0f} s in this step; version {}: {} requests, {} errors; version {}: {} requests, {} "
      "errors\n",
      about.value("seconds_in_step", 0.0), about.value("version", 0), about.value("requests", 0ULL),
      about.value("errors", 0ULL), about.value("champion", 0),
      about.value("champion_requests", 0ULL), about.value("champion_errors", 0ULL));
  const CliJson held_out = about.value("held_out", CliJson::object());
  if (held_out.contains("why") && !about.contains("held"))
    fmt::print("no held-out rows stand in for requests: {}\n", held_out.value("why", ""));
  if (about.contains("held"))
    fmt::print("it waits for a person, or for requests: {}\n", about.value("held", ""));
  if (about["decision"].value("judged_on", "requests") != "requests")
    fmt::print("judged on {} held-out rows, as too few requests came\n",
               held_out.value("rows", 0ULL));
  for (const CliJson& finding : about["decision"]["findings"])
    fmt::print("  {:9} {}\n", finding.value("verdict", ""), finding.value("text", ""));
}

}  // namespace mayfly
