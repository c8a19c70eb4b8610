#include "runner/train/table.h"

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "runner/train/testing/snapshot.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

Snapshot five_rows() {
  return {{{"n", ColumnKind::Number, std::vector<double>{1, NAN, 3, 1e300, -0.5}},
           {"i", ColumnKind::Integer, std::vector<std::int64_t>{1, 2, kNoInteger, 4, 5}},
           {"d", ColumnKind::Date, std::vector<std::int64_t>{0, kNoInteger, 86'400'000, 3, 4}},
           {"c", ColumnKind::Category, std::vector<std::string>{"a", "b", "", "a", "c"}},
           {"t", ColumnKind::Text, std::vector<std::string>{"one two", "", "x", "ü", "end"}}}};
}

std::string refusal(const Path& folder, std::string_view split = "train") {
  const auto table = TrainTable::open(folder, split);
  return table ? "taken" : table.error().message;
}

TEST_CASE("several parts are one table, in the order of their numbers") {
  const TempDir dir = *TempDir::create();
  const Snapshot snapshot = five_rows();
  snapshot.write(dir.path(), 10, "train", std::vector<std::uint32_t>{3, 4});
  snapshot.write(dir.path(), 2, "train", std::vector<std::uint32_t>{0, 1, 2});
  snapshot.write(dir.path(), 3, "valid", std::vector<std::uint32_t>{1});
  const auto table = TrainTable::open(dir.path(), "train");
  REQUIRE_MESSAGE(table.has_value(), table.error().message);
  REQUIRE(table->rows() == 5);
  const auto all = row_numbers(0, 5);
  std::vector<float> numbers(5);
  REQUIRE(table->floats(*table->find("n"), all, numbers).has_value());
  CHECK(numbers[0] == 1);
  CHECK(std::isnan(numbers[1]));
  CHECK(numbers[3] == std::numeric_limits<float>::max());  // the nearest there is
  REQUIRE(table->floats(*table->find("i"), all, numbers).has_value());
  CHECK(std::isnan(numbers[2]));
  CHECK(numbers[4] == 5);
  std::vector<std::string_view> texts(5);
  REQUIRE(table->texts(*table->find("t"), all, texts).has_value());
  CHECK(texts == std::vector<std::string_view>{"one two", "", "x", "ü", "end"});
  REQUIRE(table->texts(*table->find("c"), all, texts).has_value());
  CHECK(texts == std::vector<std::string_view>{"a", "b", "", "a", "c"});
  std::vector<std::int32_t> codes(2);
  REQUIRE(table->codes(*table->find("c"), std::vector<std::uint32_t>{4, 2}, codes).has_value());
  CHECK(codes == std::vector<std::int32_t>{2, -1});
  CHECK(TrainTable::open(dir.path(), "valid")->rows() == 1);
}

TEST_CASE("files that lie are refused by name") {
  const TempDir dir = *TempDir::create();
  const Snapshot snapshot = five_rows();
  const auto all = row_numbers(0, 5);
  const Path part = dir.path() / "parts" / "0" / "train";
  const auto anew = [&] {
    std::filesystem::remove_all(dir.path() / "parts");
    snapshot.write(dir.path(), 0, "train", all);
  };
  anew();
  CHECK(refusal(dir.path()) == "taken");
  std::filesystem::copy_file(part / "c0.npy", part / "c1.npy",
                             std::filesystem::copy_options::overwrite_existing);
  CHECK(refusal(dir.path()).find("c1.npy: not of the type of column 'i'") != std::string::npos);
  anew();
  std::filesystem::remove(part / "row.npy");
  CHECK(refusal(dir.path()).find("row.npy") != std::string::npos);
  anew();
  snapshot.write(dir.path(), 1, "train", std::vector<std::uint32_t>{1});
  std::filesystem::copy_file(dir.path() / "parts" / "1" / "train" / "c2.npy", part / "c2.npy",
                             std::filesystem::copy_options::overwrite_existing);
  CHECK(refusal(dir.path()).find("has 1 values for 5 rows") != std::string::npos);
  anew();
  std::ofstream(part / "c3.npy", std::ios::trunc) << "\x93NUMPY";
  CHECK(refusal(dir.path()).find("c3.npy") != std::string::npos);
}

TEST_CASE("values that lie outside are errors when they are read") {
  const TempDir dir = *TempDir::create();
  five_rows().write(dir.path(), 0, "train", row_numbers(0, 5));
  const Path part = dir.path() / "parts" / "0" / "train";
  std::ofstream(part / "c4.text", std::ios::trunc) << "short";
  std::ofstream(dir.path() / "schema.json")
      << R"({"columns": [{"name": "n", "type": "number"}, {"name": "i", "type": "integer"},
          {"name": "d", "type": "date"}, {"name": "c", "type": "category", "categories": ["a"]},
          {"name": "t", "type": "text"}]})";
  const auto table = TrainTable::open(dir.path(), "train");
  REQUIRE(table.has_value());
  std::vector<std::string_view> texts(5);
  const auto all = row_numbers(0, 5);
  CHECK(table->texts(4, all, texts).error().message.find("outside its file") != std::string::npos);
  CHECK(table->texts(3, all, texts).error().message.find("no category") != std::string::npos);
}

TEST_CASE("a schema that is none is refused") {
  for (const char* schema :
       {"", "[]", "{}", R"({"columns": 1})", R"({"columns": [1]})",
        R"({"columns": [{"name": "a"}]})", R"({"columns": [{"name": "a", "type": "set"}]})",
        R"({"columns": [{"name": "a", "type": "category"}]})",
        R"({"columns": [{"name": "a", "type": "category", "categories": [1]}]})",
        R"({"columns": [{"name": "a", "type": "date"}, {"name": "a", "type": "date"}]})"}) {
    CAPTURE(schema);
    CHECK_FALSE(parse_columns(schema).has_value());
  }
}

}  // namespace
}  // namespace mayfly
