// Searches over a table of results that are there already (grid/make.py): what asynchronous halving
// would have found, and what random search would have.
//
//   search_replay --table grid/churn.csv --searches 200
//
// A search draws its trials without replacement from the table; trial 0 is the first line. Prints
// the mean over all searches of the regret (the loss at all rounds of what was found, less the
// table's lowest): of halving, and of random search that is given as many rounds, and twice as
// many; the training that its budget ends in runs to its end. `rounds` is the mean of what halving
// took.
#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <ranges>
#include <span>
#include <string>
#include <vector>

#include "search/halving.h"
#include "tool.h"

namespace mayfly::bench {
namespace {

constexpr std::size_t kRungs = 3;
constexpr std::array<std::uint32_t, kRungs> kRounds = {54, 162, 486};

// A line of the table: its last columns.
struct Line {
  std::array<double, kRungs> losses{};  // the lowest within so many rounds
  // And within a half and three quarters of them.
  std::array<std::array<double, 2>, kRungs - 1> earlier{};
  std::uint32_t rounds = 0;  // until it stopped early
  double last() const { return losses.back(); }
  // Where a training that is not over after a rung is heading.
  std::optional<double> heading(std::size_t rung) const {
    if (rung + 1 == kRungs || rounds < kRounds[rung]) return std::nullopt;
    const auto& [half, quarters] = earlier[rung];
    return search::outlook({half, quarters, losses[rung]}, kRounds[rung], kRounds.back());
  }
  // That are new to it when it goes on to a rung.
  std::uint32_t cost(std::size_t rung) const {
    const std::uint32_t before = rung == 0 ? 0 : std::min(rounds, kRounds[rung - 1]);
    return std::min(rounds, kRounds[rung]) - before;
  }
};
using Table = std::vector<Line>;

double cut_last(std::string& text, const std::string& path) {
  const std::size_t comma = text.rfind(',');
  require(comma != std::string::npos, path + ": a line has too few columns");
  const double value = std::stod(text.substr(comma + 1));
  text.resize(comma);
  return value;
}

Table read_table(const std::string& path) {
  std::ifstream file(path);
  require(file.is_open(), path);
  Table table;
  std::string text;
  std::getline(file, text);
  while (std::getline(file, text)) {
    Line line;
    line.rounds = static_cast<std::uint32_t>(cut_last(text, path));
    for (std::size_t rung = kRungs; rung-- > 0;) {
      line.losses[rung] = cut_last(text, path);
      if (rung + 1 == kRungs) continue;
      for (double& loss : std::views::reverse(line.earlier[rung])) loss = cut_last(text, path);
    }
    table.push_back(line);
  }
  require(table.size() > 1, path + ": there is no result");
  return table;
}

struct Found {
  double loss = 0;
  std::uint64_t rounds = 0;
};

// `trials`: lines of the table. Results come back one at a time, in the order in which they were
// asked for.
Found halve(const Table& table, std::span<const std::size_t> trials) {
  search::Halving halving({.trials = static_cast<std::uint32_t>(trials.size()),
                           .resources = {kRounds.begin(), kRounds.end()}});
  std::uint64_t rounds = 0;
  while (const auto work = halving.next()) {
    const Line& line = table[trials[work->trial]];
    rounds += line.cost(work->rung);
    halving.report({*work, line.losses[work->rung], line.heading(work->rung)});
  }
  const auto best = halving.best();
  require(best && best->work.rung == kRungs - 1, "no trial ran to its end");
  return {.loss = best->loss, .rounds = rounds};
}

double best_within(const Table& table, std::span<const std::size_t> trials, std::uint64_t budget) {
  double best = std::numeric_limits<double>::infinity();
  std::uint64_t spent = 0;
  for (const std::size_t trial : trials) {
    if (spent >= budget) break;
    best = std::min(best, table[trial].last());
    spent += table[trial].rounds;
  }
  return best;
}

void replay(const Arguments& arguments) {
  const Table table = read_table(arguments.text("table"));
  const std::size_t searches = arguments.number("searches", 200);
  const std::size_t trials = std::min(arguments.number("trials", 27), table.size());
  const double lowest = std::ranges::min(table, {}, &Line::last).last();
  Report report;
  for (std::size_t search = 0; search < searches; ++search) {
    std::mt19937_64 random(search);
    std::vector<std::size_t> lines(table.size());
    std::iota(lines.begin(), lines.end(), 0);
    std::shuffle(lines.begin() + 1, lines.end(), random);
    const Found found = halve(table, std::span(lines).first(trials));
    report.more["halving"] += found.loss - lowest;
    report.more["rounds"] += static_cast<double>(found.rounds);
    // Random search knows of no default configuration, and draws its trials apart.
    std::ranges::shuffle(lines, random);
    report.more["random"] += best_within(table, lines, found.rounds) - lowest;
    report.more["random_twice"] += best_within(table, lines, 2 * found.rounds) - lowest;
  }
  for (auto& [name, sum] : report.more) sum /= static_cast<double>(searches);
  print(report);
}

}  // namespace
}  // namespace mayfly::bench

int main(int argc, char** argv) {
  mayfly::bench::replay(mayfly::bench::Arguments(argc, argv, 1));
  return 0;
}
