#include "jobs/score_slice.h"

#include <fmt/format.h>

#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

DatasetSchema schema_of(std::size_t columns) {
  DatasetSchema schema;
  for (std::size_t i = 0; i < columns; ++i)
    schema.columns.push_back({.name = fmt::format("x{}", i), .type = ColumnType::Number});
  return schema;
}

std::vector<SourceFile> two_parts(std::size_t columns) {
  std::vector<SourceFile> files = {{.file = {.path = "schema.json", .sha256 = {}, .size = 1}}};
  for (const int part : {0, 1}) {
    for (const char* split : {"train", "valid", "test"}) {
      const std::string folder = fmt::format("parts/{}/{}", part, split);
      files.push_back({.file = {.path = folder + "/row.npy", .sha256 = {}, .size = 1}});
      for (std::size_t i = 0; i < columns; ++i)
        files.push_back(
            {.file = {.path = fmt::format("{}/c{}.npy", folder, i), .sha256 = {}, .size = 1}});
    }
  }
  return files;
}

std::set<std::string> seen_by(const ScoreJob& job) {
  std::set<std::string> paths;
  for (const SourceFile& source : choose_scored(two_parts(12), schema_of(12), job))
    paths.insert(source.file.path);
  return paths;
}

}  // namespace

TEST_CASE("a scoring sees its split, and of training rows the target") {
  const auto valid = seen_by({.split = Split::Valid, .target = "x1"});
  CHECK(valid.contains("schema.json"));
  CHECK(valid.contains("parts/1/valid/c11.npy"));
  CHECK(valid.contains("parts/0/train/c1.npy"));
  CHECK(valid.contains("parts/1/train/row.npy"));
  CHECK(valid.size() == 1 + 2 * 13 + 2 * 2);
  for (const std::string& path : valid) CHECK(path.find("/test/") == std::string::npos);
  const auto test = seen_by({.split = Split::Test, .target = "x0"});
  CHECK(test.contains("parts/0/test/row.npy"));
  CHECK_FALSE(test.contains("parts/0/valid/row.npy"));
  CHECK_FALSE(test.contains("parts/0/train/c1.npy"));
}

TEST_CASE("a scoring of recommendations sees who has what in training rows, and no more") {
  const auto seen = seen_by(
      {.split = Split::Test, .task = TrainTask::Recommendation, .target = "x1", .group = "x10"});
  CHECK(seen.contains("parts/0/train/c1.npy"));
  CHECK(seen.contains("parts/1/train/c10.npy"));
  CHECK(seen.size() == 1 + 2 * 13 + 2 * 3);
}

TEST_CASE("what is to become requests sees its split without the target, and nothing else") {
  const auto seen = seen_by({.split = Split::Test, .target = "x1", .requests = 10});
  CHECK(seen.contains("parts/0/test/c0.npy"));
  CHECK(seen.contains("parts/0/test/c10.npy"));
  CHECK_FALSE(seen.contains("parts/0/test/c1.npy"));
  CHECK(seen.size() == 1 + 2 * 12);
}

TEST_CASE("without a target, training rows are not seen") {
  CHECK(seen_by({.split = Split::Valid}).size() == 1 + 2 * 13);
  CHECK(seen_by({.split = Split::Valid, .target = "y"}).size() == 1 + 2 * 13);
}
