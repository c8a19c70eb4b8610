#include "cli/data_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/table.h"
#include "core/iso_date.h"
#include "core/printable.h"

namespace mayfly {
namespace {

constexpr std::size_t kShownName = 40;
constexpr std::size_t kShownValue = 24;
constexpr std::size_t kShownLine = 300;
constexpr std::size_t kShownCategories = 4;

std::uint64_t count_in(const CliJson& json, const char* key) {
  return json.value(key, std::uint64_t{0});
}

std::string rows_text(const CliJson& rows) {
  const std::uint64_t train = count_in(rows, "train");
  const std::uint64_t valid = count_in(rows, "valid");
  const std::uint64_t test = count_in(rows, "test");
  return fmt::format("{} rows: {} to train, {} to validate, {} to test",
                     human_count(train + valid + test), human_count(train), human_count(valid),
                     human_count(test));
}

std::string figure(const CliJson& column, const char* key) {
  if (!column.contains(key) || !column[key].is_number()) return "";
  const std::string type = column.value("type", "");
  if (type == "date" && column[key].is_number_integer())
    return format_iso_date(column[key].get<std::int64_t>()).substr(0, 16);
  if (type == "date")
    return format_iso_date(static_cast<std::int64_t>(column[key].get<double>())).substr(0, 16);
  return short_number(column[key]);
}

// "good 70 %, bad 30 %"
std::string most_frequent(const CliJson& column) {
  const CliJson top = column.value("top", CliJson::array());
  const auto count = static_cast<double>(std::max<std::uint64_t>(count_in(column, "count"), 1));
  std::string text;
  for (std::size_t i = 0; i < top.size() && i < kShownCategories; ++i) {
    const double share = 100 * static_cast<double>(count_in(top[i], "count")) / count;
    text +=
        fmt::format("{}{} {:.{}f} %", i == 0 ? "" : ", ",
                    printable(top[i].value("value", ""), kShownValue), share, share < 1 ? 1 : 0);
  }
  return top.size() > kShownCategories ? text + ", …" : text;
}

std::string shape_of(const CliJson& column) {
  const std::string type = column.value("type", "");
  if (type == "category" || type == "text") return most_frequent(column);
  return bars(column.value("histogram", CliJson::array()));
}

}  // namespace

std::string bars(const CliJson& counts) {
  constexpr std::array<const char*, 8> kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  double most = 0;
  for (const CliJson& count : counts) {
    if (count.is_number()) most = std::max(most, count.get<double>());
  }
  std::string text;
  for (const CliJson& count : counts) {
    const double share = count.is_number() && most > 0 ? count.get<double>() / most : 0;
    const auto height = static_cast<std::size_t>(std::ceil(share * 8));
    text += height == 0 ? " " : kBars.at(std::min<std::size_t>(height, 8) - 1);
  }
  return text;
}

std::string short_number(const CliJson& number) {
  if (!number.is_number()) return "";
  if (number.is_number_integer()) return number.dump();
  return fmt::format("{:.4g}", number.get<double>());
}

std::string shared_text(const std::string& name, const CliJson& erased) {
  std::string others;
  for (const CliJson& number : erased.value("shared_with", CliJson::array()))
    others += fmt::format("{}{}@{}", others.empty() ? "" : ", ", name, number.dump());
  if (others.empty()) return others;
  return fmt::format("rows that these have, too, are still there: {}\n", others);
}

std::string ingest_text(const CliJson& result) {
  std::string text =
      fmt::format("{}@{}: {}\n", result.value("dataset", ""), count_in(result, "snapshot"),
                  rows_text(result.value("rows", CliJson::object())));
  if (result.value("unchanged", false))
    text += "these very files make this snapshot already: nothing was to be done\n";
  if (result.contains("erased")) {
    const std::string name = result.value("dataset", "");
    text += fmt::format("{} rows are gone, and {}@{} is erased\n",
                        human_count(count_in(result, "removed")), name, count_in(result, "erased"));
    text += shared_text(name, result);
  }
  const std::uint64_t bad = count_in(result, "bad_rows");
  if (bad > 0) text += fmt::format("{} rows could not be read:\n", human_count(bad));
  const CliJson shown = result.value("shown", CliJson::array());
  for (const CliJson& row : shown) {
    const std::string where = row.contains("line") ? fmt::format("line {}", count_in(row, "line"))
                                                   : fmt::format("row {}", count_in(row, "row"));
    text += fmt::format("  {}, {}: {}\n", printable(row.value("file", ""), kShownName), where,
                        printable(row.value("error", ""), kShownLine));
  }
  const CliJson notes = result.value("notes", CliJson::array());
  for (const CliJson& note : notes) {
    if (note.is_string())
      text += fmt::format("note: {}\n", printable(note.get<std::string>(), kShownLine));
  }
  return text;
}

namespace {

// A bound holds with 95 %, and all that were looked for together do: Bonferroni.
std::string looks_text(const CliJson& looks) {
  constexpr double kAlpha = 0.05;
  const std::size_t count = looks.size();
  const double next = 100 * (1 - kAlpha / static_cast<double>(count + 1));
  return fmt::format("test rows were looked at {}; the next bound on them holds with {:.3g} %\n",
                     count == 0   ? "by nobody"
                     : count == 1 ? "once"
                                  : fmt::format("{} times", count),
                     next);
}

}  // namespace

std::string snapshot_text(const CliJson& snapshot) {
  std::string text =
      fmt::format("{}@{}  {}, {}\n", snapshot.value("dataset", ""), count_in(snapshot, "number"),
                  snapshot.value("kind", ""), snapshot.value("created", ""));
  text += fmt::format("{}; {}; {} bad rows\n", rows_text(snapshot.value("rows", CliJson::object())),
                      human_bytes(count_in(snapshot, "bytes")),
                      human_count(count_in(snapshot, "bad_rows")));
  const CliJson schema = snapshot.value("schema", CliJson::object());
  const CliJson split = schema.value("split", CliJson::object());
  const std::string key = printable(split.value("column", ""), kShownName);
  text += fmt::format("split by {}{}{}\n", split.value("by", ""), key.empty() ? "" : " ", key);
  text += looks_text(snapshot.value("test_looks", CliJson::array()));
  if (!schema.value("target", "").empty())
    text += fmt::format("target {}\n", printable(schema.value("target", ""), kShownName));
  text += fmt::format("sha256 {}\n", snapshot.value("digest", ""));
  if (snapshot.contains("erased")) {
    const CliJson& erased = snapshot["erased"];
    const std::string by = erased.value("by", "");
    return text + fmt::format("erased {}{}{}: {}\n", erased.value("time", ""),
                              by.empty() ? "" : " by ", by,
                              printable(erased.value("reason", ""), kShownLine));
  }
  const CliJson statistics = snapshot.value("statistics", CliJson::object());
  Table table({"COLUMN", "TYPE", "MISSING", "DISTINCT", "MIN", "MEAN", "MAX", "VALUES"});
  const CliJson columns = statistics.value("columns", CliJson::array());
  for (const CliJson& column : columns) {
    table.add({printable(column.value("name", ""), kShownName), column.value("type", ""),
               human_count(count_in(column, "missing")), human_count(count_in(column, "distinct")),
               figure(column, "min"), figure(column, "mean"), figure(column, "max"),
               shape_of(column)});
  }
  return text + "\n" + table.str();
}

std::string dataset_text(const CliJson& dataset) {
  Table table({"SNAPSHOT", "KIND", "ROWS", "BAD", "SIZE", "CREATED", "BY", "STATE"});
  const CliJson snapshots = dataset.value("snapshots", CliJson::array());
  for (const CliJson& snapshot : snapshots) {
    const CliJson rows = snapshot.value("rows", CliJson::object());
    const std::uint64_t all =
        count_in(rows, "train") + count_in(rows, "valid") + count_in(rows, "test");
    table.add({fmt::format("{}@{}", dataset.value("name", ""), count_in(snapshot, "number")),
               snapshot.value("kind", ""), human_count(all),
               human_count(count_in(snapshot, "bad_rows")),
               human_bytes(count_in(snapshot, "bytes")), snapshot.value("created", ""),
               snapshot.value("created_by", ""),
               snapshot.contains("erased")
                   ? "erased: " + printable(snapshot["erased"].value("reason", ""), kShownName)
                   : std::string()});
  }
  return table.str();
}

}  // namespace mayfly
