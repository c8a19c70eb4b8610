#include "lineage/card.h"

#include <limits>

#include "lineage/html.h"
#include "lineage/plots.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

Json record_of(const std::string& name) {
  return {{"task", "binary"},
          {"target", name},
          {"metric", "auc"},
          {"classes", {name, "good"}},
          {"trainer", {{"kind", "xgboost"}, {"params", {{name, 0.3}}}}},
          {"data", Json::array({{{"dataset", name},
                                 {"snapshot", 3},
                                 {"rows", {{"train", 700}, {"valid", 100}, {"test", 90}}},
                                 {"sources", Json::array({{{"name", name}, {"sha256", "aa"}}})}}})},
          {"left_out", Json::array({{{"column", name}, {"why", name}}})},
          {"metrics",
           {{"valid", {{"auc", {{"value", 0.8}, {"low", 0.7}, {"high", 0.9}}}}},
            {"test", {{"auc", {{"value", 0.79}, {"low", 0.69}, {"high", 0.88}}}}}}},
          {"baselines", {{name, {{"metrics", {{"auc", {{"value", 0.5}}}}}}}}},
          {"looks", 2},
          {"confusion", {{"test", {{40, 5}, {6, 39}}}}},
          {"calibration",
           {{"bins", Json::array({{{"confidence", 0.7}, {"accuracy", 0.6}, {"rows", 9}}})}}},
          {"slices",
           {{name, Json::array({{{"value", name}, {"rows", 50}, {"metric", {{"value", 0.7}}}}})}}},
          {"importance", Json::array({{{"feature", name}, {"share", 0.4}}})},
          {"history", Json::array({Json::array({1, 0.6}), Json::array({2, 0.7})})},
          {"parity", {{"rows", 1000}}},
          {"gate",
           {{"passed", false},
            {"why", name},
            {"checks", Json::array({{{"check", "rows"}, {"passed", false}, {"text", name}}})}}}};
}

Json card_of(const std::string& name) {
  return model_card(
      {.lineage = {{"function", "fraud"},
                   {"version", 7},
                   {"data", Json::array({{{"dataset", name},
                                          {"snapshot", 3},
                                          {"erased",
                                           {{"time", "2026"}, {"by", name}, {"reason", name}}}}})}},
       .record = record_of(name),
       .provenance = {{"signed", true}, {"key", name}},
       .inputs = Json::array({{{"name", name}, {"datatype", "FP32"}}}),
       .outputs = Json::array(),
       .rollout = {{"state", "none"}},
       .measured = {{"run_us", 12}}});
}

std::size_t times(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

}  // namespace

TEST_CASE("a card says what a version is for, how good it is and what its limits are") {
  const Json card = card_of("class");
  CHECK(card["purpose"] ==
        "It predicts 'class' of rows like those of the dataset 'class': one of 2 classes.");
  const std::string limits = card["limits"].dump();
  for (const char* part : {"were erased", "Only 90 rows", "looked at 2 times", "gate did not"})
    CHECK_MESSAGE(limits.find(part) != std::string::npos, part);
  const std::string page = card_page(card);
  for (const char* part : {"fraud@7", "0.79 (0.69 to 0.88)", "was erased on 2026", "Not passed",
                           "Calibration", "Confusion", "What counts most", "Learning", "By group"})
    CHECK_MESSAGE(page.find(part) != std::string::npos, part);
  CHECK(times(page, "<svg ") == 5);
  CHECK(times(page, "</svg>") == 5);
}

TEST_CASE("a version that was not trained here has a card that says so") {
  const Json card = model_card({.lineage = {{"function", "fraud"}, {"version", 1}},
                                .record = {},
                                .provenance = {},
                                .inputs = {},
                                .outputs = {},
                                .rollout = {},
                                .measured = {}});
  CHECK(card["limits"][0] == "What it learned from, and how good it is, is not known.");
  CHECK(card_page(card).find("The gate") == std::string::npos);
}

TEST_CASE("no word of a record becomes markup") {
  for (const char* hostile :
       {"<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'><svg onload=alert(1)>",
        "</style><script>", "</title><script>", "&lt;script&gt;", "]]><script>"}) {
    CAPTURE(hostile);
    const std::string page = card_page(card_of(hostile));
    CHECK(times(page, "<script") == 0);
    CHECK(times(page, "<img") == 0);
    CHECK(times(page, "<svg ") == 5);
    CHECK(times(page, "</style>") == 1);
    CHECK(times(page, "</title>") == 1 + 5);
    CHECK(page.find(escape_html(hostile)) != std::string::npos);
  }
}

TEST_CASE("a record of any JSON has a page") {
  for (const char* text : {"null", "1", "\"x\"", "[]", "[[[]]]", "{}", R"({"metrics":[1,2]})",
                           R"({"data":{"a":1},"metrics":{"test":3,"valid":"x"},"baselines":[4]})",
                           R"({"confusion":{"test":[[1],[2,3],4]},"slices":{"a":7},"history":[1]})",
                           R"({"importance":{"a":1},"gate":{"checks":"x"},"parity":[]})"}) {
    CAPTURE(text);
    const Json json = Json::parse(text);
    CHECK(card_page(json).ends_with("</body></html>\n"));
    const Json card = model_card({.lineage = json,
                                  .record = json,
                                  .provenance = json,
                                  .inputs = json,
                                  .outputs = json,
                                  .rollout = json,
                                  .measured = json});
    CHECK(card_page(card).ends_with("</body></html>\n"));
  }
}

TEST_CASE("words are shown as they are, cut, and without what turns their direction") {
  CHECK(escape_html("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#39;");
  CHECK(escape_html("ünï") == "ünï");
  CHECK(escape_html("a\xe2\x80\xae"
                    "b") == "a?b");
  CHECK(escape_html("a\nb\x1b[0m") == "a?b?[0m");
  CHECK(escape_html(std::string(500, 'x')).size() < 400);
}

TEST_CASE("plots of numbers that are none are plots all the same") {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const double endless = std::numeric_limits<double>::max();
  CHECK(plot_whiskers({{"a", none, 0, 1}}).empty());
  CHECK(plot_curve({{none, 1}}, "x", "y").empty());
  for (const std::string& svg : {plot_bars({{"a", none}, {"b", endless}, {"c", -1}}),
                                 plot_whiskers({{"a", 0, -endless, endless}}),
                                 plot_curve({{-endless, 0}, {endless, 1}}, "x", "y"),
                                 plot_calibration({{2, -3, endless}, {none, 0, 1}}),
                                 plot_confusion({{~0ULL, 1}, {0, 0}}, {})}) {
    CHECK(svg.starts_with("<svg "));
    CHECK(svg.ends_with("</svg>"));
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.find("inf") == std::string::npos);
  }
}
