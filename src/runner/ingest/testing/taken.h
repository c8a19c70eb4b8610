// An ingest of texts, in this process, and what it left.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "runner/dataset/npy.h"
#include "runner/ingest/ingest.h"

#include <doctest/doctest.h>

namespace mayfly {

inline std::string content_of(const Path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Taken {
  explicit Taken(std::string_view text, IngestOptions options = {}) {
    job.options = std::move(options);
    add_source(text);
  }

  void add_source(std::string_view text) {
    const std::string name = fmt::format("input-{}", job.sources.size());
    REQUIRE(make_directories(source()).has_value());
    REQUIRE(make_directories(work()).has_value());
    std::ofstream(source() / name, std::ios::binary) << text;
    job.sources.push_back({.file = name, .name = fmt::format("file{}.csv", job.sources.size())});
  }

  Path source() const { return dir.path() / "source"; }
  Path work() const { return dir.path() / "work"; }

  const IngestReport& run() {
    const Status ran = run_ingest(-1, job, {.source = source(), .work = work()});
    REQUIRE_MESSAGE(ran.has_value(), ran.error().message);
    auto parsed = parse_ingest_report(content_of(work() / "report.json"));
    REQUIRE_MESSAGE(parsed.has_value(), parsed.error().message);
    report = *std::move(parsed);
    if (report.refused) return report;
    auto found = parse_dataset_schema(content_of(work() / "snapshot/schema.json"));
    REQUIRE_MESSAGE(found.has_value(), found.error().message);
    schema = *std::move(found);
    const std::string statistics_json = content_of(work() / "snapshot/statistics.json");
    const Status sound = check_statistics(statistics_json, schema);
    REQUIRE_MESSAGE(sound.has_value(), sound.error().message);
    statistics = Json::parse(statistics_json)["columns"];
    return report;
  }

  std::size_t index(std::string_view name) const {
    for (std::size_t i = 0; i < schema.columns.size(); ++i) {
      if (schema.columns[i].name == name) return i;
    }
    FAIL("no column ", name);
    return 0;
  }
  ColumnType type(std::string_view name) const { return schema.columns[index(name)].type; }

  // Of all splits, train first.
  template <typename T>
  std::vector<T> values(std::string_view file) const {
    std::vector<T> all;
    for (const char* split : {"train", "valid", "test"}) {
      const auto column = NpyColumn::open(work() / "part" / split / file);
      REQUIRE_MESSAGE(column.has_value(), column.error().message);
      const auto some = column->template as<T>();
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }
  template <typename T>
  std::vector<T> column(std::string_view name) const {
    return values<T>(fmt::format("c{}.npy", index(name)));
  }
  std::vector<std::string> texts(std::string_view name) const {
    std::vector<std::string> all;
    for (const char* split : {"train", "valid", "test"}) {
      const Path folder = work() / "part" / split;
      const auto offsets = NpyColumn::open(folder / fmt::format("c{}.offsets.npy", index(name)));
      REQUIRE(offsets.has_value());
      const std::string text = content_of(folder / fmt::format("c{}.text", index(name)));
      const auto ends = offsets->as<std::int64_t>();
      REQUIRE(ends.back() == static_cast<std::int64_t>(text.size()));
      for (std::size_t i = 0; i + 1 < ends.size(); ++i) {
        all.push_back(text.substr(static_cast<std::size_t>(ends[i]),
                                  static_cast<std::size_t>(ends[i + 1] - ends[i])));
      }
    }
    return all;
  }
  std::vector<std::string> categories(std::string_view name) const {
    std::vector<std::string> all;
    for (const std::int32_t code : column<std::int32_t>(name)) {
      all.push_back(
          code < 0 ? "" : schema.columns[index(name)].categories[static_cast<std::size_t>(code)]);
    }
    return all;
  }

  TempDir dir = *TempDir::create();
  IngestJob job{.options = {}, .sources = {}, .key = {.k0 = 1, .k1 = 2}};
  IngestReport report;
  DatasetSchema schema;
  Json statistics;
};

// Everything in one split, in the order in which it came.
inline IngestOptions unsplit(SourceFormat format = SourceFormat::Csv) {
  return {.format = format, .split = {.valid = 0, .test = 0}};
}

}  // namespace mayfly
