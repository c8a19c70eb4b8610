// The page of a model card. Words reach it through Html::text alone, plots through plots.h.
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "lineage/card.h"
#include "lineage/html.h"
#include "lineage/json_parts.h"
#include "lineage/plots.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostRows = 200;  // of a table
constexpr std::size_t kMostBars = 20;
constexpr std::size_t kMostConfused = 20;  // classes of a matrix that is drawn
constexpr std::size_t kMostSources = 50;
constexpr std::size_t kMostPoints = 5000;

constexpr std::string_view kHead =
    R"(<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">)"
    R"(<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">)"
    R"(<meta name="viewport" content="width=device-width"><style>)"
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1a202c}"
    "h1{margin-bottom:0}h2{margin-top:2em;border-bottom:1px solid #cbd5e0}"
    "table{border-collapse:collapse;margin:.7em 0}td,th{padding:.2em .8em .2em 0;text-align:left;"
    "vertical-align:top;border-bottom:1px solid #edf2f7}th{font-weight:600}"
    ".no{color:#9b2c2c}.yes{color:#276749}code{font-size:13px;overflow-wrap:anywhere}"
    "svg{max-width:100%;height:auto}figure{margin:1em 0}figcaption{color:#4a5568}"
    "</style><title>";

// Anything, in one line: "metric auc, at 0.7" of an object of plain values.
std::string word_of(const Json& json) {
  if (json.is_null()) return "";
  if (json.is_string()) return json.get<std::string>();
  if (json.is_number_float()) return fmt::format("{:.6g}", json.get<double>());
  const bool plain = json.is_object() && std::ranges::none_of(json, [](const Json& one) {
                       return one.is_structured();
                     });
  if (!plain) return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string text;
  for (const auto& [key, value] : json.items()) {
    const std::string word = value.is_string() ? value.get<std::string>() : value.dump();
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key, word);
  }
  return text;
}

std::string figure_of(const Json& metric) {
  const auto value = number_at(metric, "value");
  if (!value) return "";
  const auto low = number_at(metric, "low");
  const auto high = number_at(metric, "high");
  if (!low || !high) return fmt::format("{:.4g}", *value);
  return fmt::format("{:.4g} ({:.4g} to {:.4g})", *value, *low, *high);
}

class Page {
 public:
  explicit Page(const Json& card) : card_(card), record_(at(card, "training")) {}

  std::string make() {
    const std::string name =
        fmt::format("{}@{}", text_at(card_, "function"), word_of(at(card_, "version")));
    html_.raw(kHead).text(name).raw("</title></head><body>").element("h1", name);
    html_.raw("<p>Model card</p>");
    purpose();
    data();
    interface();
    if (record_.is_object()) {
      metrics();
      slices();
      learning();
      parity();
      gate();
    }
    serving();
    html_.raw("</body></html>\n");
    return html_.take();
  }

 private:
  void fact(std::string_view name, std::string_view value) {
    if (value.empty()) return;
    html_.raw("<tr>").element("th", name).element("td", value, 1000).raw("</tr>");
  }
  void row(std::string_view name, const Json& value) { fact(name, word_of(value)); }
  void cells(std::string_view tag, const std::vector<std::string>& texts) {
    html_.raw("<tr>");
    for (const std::string& text : texts) html_.element(tag, text);
    html_.raw("</tr>");
  }
  void figure(const std::string& svg, std::string_view caption) {
    if (svg.empty()) return;
    html_.raw("<figure>").raw(svg).element("figcaption", caption).raw("</figure>");
  }

  void purpose() {
    html_.raw("<h2>What it is for</h2>").element("p", text_at(card_, "purpose"), 1000);
    html_.raw("<table>");
    row("Made", at(card_, "created"));
    row("By", at(card_, "deployed_by"));
    row("Task", at(record_, "task"));
    row("Target", at(record_, "target"));
    row("Positive class", at(record_, "positive"));
    row("Goal", at(record_, "goal"));
    row("Outcome", at(record_, "outcome"));
    row("Asked for by", at(at(record_, "trigger"), "who"));
    row("Because", at(at(record_, "trigger"), "why"));
    row("Succeeds version", at(record_, "parent"));
    html_.raw("</table><h2>Limits</h2><ul>");
    for (const Json& limit : at(card_, "limits")) html_.element("li", word_of(limit), 1500);
    html_.raw("</ul>");
  }

  void data() {
    const Json& all = at(record_, "data");
    if (!all.is_array() || all.empty()) return;
    html_.raw("<h2>Data</h2><table>");
    cells("th", {"Snapshot", "To train", "To validate", "To test", "Split", "SHA-256"});
    std::size_t shown = 0;
    for (const Json& one : all) {
      if (++shown > kMostRows) break;
      const Json& rows = at(one, "rows");
      cells("td", {fmt::format("{}@{}", text_at(one, "dataset"), word_of(at(one, "snapshot"))),
                   word_of(at(rows, "train")), word_of(at(rows, "valid")),
                   word_of(at(rows, "test")), word_of(at(one, "split")), text_at(one, "digest")});
    }
    html_.raw("</table>");
    for (const Json& one : at(card_, "data")) {
      const Json& erased = at(one, "erased");
      if (erased.is_null()) continue;
      html_.raw("<p class=\"no\">")
          .text(fmt::format("{}@{} was erased on {} by {}: {}", text_at(one, "dataset"),
                            word_of(at(one, "snapshot")), text_at(erased, "time"),
                            text_at(erased, "by"), text_at(erased, "reason")),
                1500)
          .raw("</p>");
    }
    html_.raw("<table>");
    cells("th", {"Source", "SHA-256"});
    for (const Json& one : all) {
      for (const Json& source : at(one, "sources")) {
        if (++shown > kMostSources) break;
        cells("td", {text_at(source, "name"), text_at(source, "sha256")});
      }
    }
    html_.raw("</table>");
    const Json& left_out = at(record_, "left_out");
    if (!left_out.is_array() || left_out.empty()) return;
    html_.raw("<p>Columns that it did not learn from:</p><table>");
    for (const Json& one : left_out) cells("td", {text_at(one, "column"), text_at(one, "why")});
    html_.raw("</table>");
  }

  void interface() {
    html_.raw("<h2>Inputs and outputs</h2><table>");
    cells("th", {"", "Name", "Type", "Shape"});
    std::size_t shown = 0;
    for (const char* side : {"inputs", "outputs"}) {
      for (const Json& tensor : at(card_, side)) {
        if (++shown > kMostRows) break;
        cells("td",
              {std::string(side).substr(0, std::string_view(side).size() - 1),
               text_at(tensor, "name"), text_at(tensor, "datatype"), word_of(at(tensor, "shape"))});
      }
    }
    html_.raw("</table>");
  }

  void metrics() {
    const Json& found = at(record_, "metrics");
    const Json& baselines = at(record_, "baselines");
    html_.raw("<h2>How good it is</h2>");
    html_.element("p", "With confidence intervals; test rows were held out until the end.");
    html_.raw("<table>");
    std::vector<std::string> heads{"Metric", "Validation rows", "Test rows"};
    for (const auto& [name, of] : baselines.items()) heads.push_back(name);
    cells("th", heads);
    const Json& test = at(found, "test");
    const Json& named = test.is_object() && !test.empty() ? test : at(found, "valid");
    std::size_t shown = 0;
    for (const auto& [name, of] : named.items()) {
      if (++shown > kMostRows) break;
      std::vector<std::string> texts{name, figure_of(at(at(found, "valid"), name)),
                                     figure_of(at(test, name))};
      for (const auto& [baseline, said] : baselines.items())
        texts.push_back(figure_of(at(metrics_of(said), name)));
      cells("td", texts);
    }
    html_.raw("</table><table>");
    row("Decided by", at(record_, "metric"));
    row("Looks at the test rows", at(record_, "looks"));
    row("Error of each end of an interval", at(record_, "alpha"));
    html_.raw("</table>");
    figure(plot_whiskers(whiskers()),
           fmt::format("{}, and what it is held against", text_at(record_, "metric")));
    confusion();
    calibration();
  }

  static const Json& metrics_of(const Json& baseline) {
    const Json& inner = at(baseline, "metrics");
    return inner.is_null() ? at(baseline, "test") : inner;
  }

  std::vector<Whisker> whiskers() const {
    const std::string metric = text_at(record_, "metric");
    std::vector<Whisker> all;
    const auto add = [&](std::string label, const Json& of) {
      const Json& one = at(of, metric);
      const auto value = number_at(one, "value");
      if (!value || all.size() >= kMostBars) return;
      all.push_back({std::move(label), *value, number_at(one, "low").value_or(*value),
                     number_at(one, "high").value_or(*value)});
    };
    add("validation", at(at(record_, "metrics"), "valid"));
    add("test", at(at(record_, "metrics"), "test"));
    for (const auto& [name, of] : at(record_, "baselines").items()) add(name, metrics_of(of));
    return all;
  }

  // As many columns as it has lines.
  static std::vector<std::vector<std::uint64_t>> square_of(const Json& matrix) {
    std::vector<std::vector<std::uint64_t>> counts;
    for (const Json& line : matrix) {
      std::vector<std::uint64_t> row;
      for (const Json& count : line)
        row.push_back(count.is_number_unsigned() ? count.get<std::uint64_t>() : 0);
      row.resize(matrix.size());
      counts.push_back(std::move(row));
    }
    return counts;
  }

  void confusion() {
    for (const char* split : {"test", "valid"}) {
      const Json& matrix = at(at(record_, "confusion"), split);
      if (!matrix.is_array() || matrix.empty() || matrix.size() > kMostConfused) continue;
      std::vector<std::string> classes;
      for (const Json& name : at(record_, "classes")) classes.push_back(word_of(name));
      figure(plot_confusion(square_of(matrix), classes),
             fmt::format("Confusion on {} rows: what was true, down; what it said, across",
                         std::string_view(split) == "test" ? "test" : "validation"));
      return;
    }
  }

  void calibration() {
    std::vector<Point> points;
    for (const Json& bin : at(at(record_, "calibration"), "bins")) {
      const auto x = number_at(bin, "confidence");
      const auto y = number_at(bin, "accuracy");
      if (x && y && points.size() < kMostPoints)
        points.push_back({*x, *y, static_cast<double>(count_at(bin, "rows"))});
    }
    if (points.empty()) return;
    figure(plot_calibration(points), "Calibration: how often it was right, by how sure it was");
  }

  void slices() {
    const Json& all = at(record_, "slices");
    if (!all.is_object() || all.empty()) return;
    html_.raw("<h2>By group</h2><table>");
    cells("th", {"Column", "Value", "Rows", text_at(record_, "metric")});
    std::size_t shown = 0;
    for (const auto& [column, values] : all.items()) {
      for (const Json& one : values) {
        if (++shown > kMostRows) break;
        cells("td", {column, word_of(at(one, "value")), word_of(at(one, "rows")),
                     figure_of(at(one, "metric"))});
      }
    }
    html_.raw("</table>");
  }

  void learning() {
    html_.raw("<h2>How it was made</h2><table>");
    const Json& trainer = at(record_, "trainer");
    row("Trainer", at(trainer, "kind"));
    row("Code", at(trainer, "function"));
    const Json& code = at(trainer, "code");
    row("Digest of the code", at(code, "artifact"));
    row("Digest of its packages", at(code, "environment"));
    row("Packages", at(code, "packages"));
    for (const auto& [name, value] : at(trainer, "params").items()) row("Parameter " + name, value);
    row("Seed", at(trainer, "seed"));
    row("Rounds", at(trainer, "rounds"));
    row("Trials", at(record_, "trials"));
    row("Cost", at(record_, "cost"));
    row("Software", at(record_, "software"));
    row("Job", at(record_, "job"));
    html_.raw("</table>");
    std::vector<Bar> bars;
    for (const Json& one : at(record_, "importance")) {
      const auto share = number_at(one, "share");
      if (share && bars.size() < kMostBars) bars.push_back({word_of(at(one, "feature")), *share});
    }
    if (!bars.empty()) figure(plot_bars(bars), "What counts most: shares of all importance");
    std::vector<Point> curve;
    for (const Json& point : at(record_, "history")) {
      const bool pair =
          point.is_array() && point.size() == 2 && point[0].is_number() && point[1].is_number();
      if (pair && curve.size() < kMostPoints)
        curve.push_back({point[0].get<double>(), point[1].get<double>()});
    }
    if (curve.size() > 1)
      figure(plot_curve(curve, "rounds", text_at(record_, "metric")),
             "Learning: the metric on validation rows");
  }

  void parity() {
    const Json& found = at(record_, "parity");
    if (!found.is_object()) return;
    html_.raw("<h2>Whether the model says what its trainer said</h2><table>");
    for (const auto& [name, value] : found.items()) row(name, value);
    html_.raw("</table>");
  }

  void gate() {
    const Json& found = at(record_, "gate");
    if (!found.is_object()) return;
    const bool passed = flag_at(found, "passed");
    html_.raw("<h2>The gate</h2>").raw(passed ? "<p class=\"yes\">" : "<p class=\"no\">");
    html_.text(passed ? "Passed. " : "Not passed. ").text(text_at(found, "why"), 2000).raw("</p>");
    html_.raw("<table>");
    for (const Json& check : at(found, "checks"))
      cells("td", {text_at(check, "check"), flag_at(check, "passed") ? "yes" : "no",
                   text_at(check, "text")});
    html_.raw("</table>");
  }

  void serving() {
    html_.raw("<h2>Who vouches for it, and what it does</h2><table>");
    const Json& provenance = at(card_, "provenance");
    fact("Signed", flag_at(provenance, "signed") ? "yes" : "no");
    row("Key", at(provenance, "key"));
    row("Imported", at(provenance, "imported"));
    const Json& serves = at(card_, "serves");
    row("Champion", at(serves, "champion"));
    row("Percent of the requests", at(serves, "weight"));
    row("Aliases", at(serves, "aliases"));
    row("Rollout", at(at(card_, "rollout"), "state"));
    row("One run, in microseconds", at(at(card_, "measured"), "run_us"));
    row("Model file", at(record_, "model"));
    html_.raw("</table>");
  }

  const Json& card_;
  const Json& record_;
  Html html_;
};

}  // namespace

std::string card_page(const Json& card) { return Page(card).make(); }

}  // namespace mayfly
