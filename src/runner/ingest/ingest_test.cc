// Files with every trap there is, taken in, and what is left of them.
#include "runner/ingest/ingest.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runner/dataset/npy.h"
#include "runner/ingest/part_writer.h"
#include "runner/ingest/statistics.h"
#include "runner/ingest/testing/taken.h"
#include "runner/ingest/zip_archive.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

template <typename T>
void put_bytes(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

struct Zipped {
  std::string name;
  std::string content;
  bool deflate = false;
  std::uint32_t size = 0;  // that is told; 0: the right one
};

std::string deflated(const std::string& content) {
  z_stream stream{};
  REQUIRE(::deflateInit2(&stream, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(content.size() + 1000, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

std::string zip_of(const std::vector<Zipped>& files) {
  std::string out;
  std::string directory;
  for (const Zipped& file : files) {
    const std::string packed = file.deflate ? deflated(file.content) : file.content;
    std::string facts;
    put_bytes<std::uint16_t>(facts, 20);
    put_bytes<std::uint16_t>(facts, 0);
    put_bytes<std::uint16_t>(facts, file.deflate ? 8 : 0);
    put_bytes<std::uint32_t>(facts, 0);
    put_bytes(facts, static_cast<std::uint32_t>(
                         ::crc32(0, reinterpret_cast<const Bytef*>(file.content.data()),
                                 static_cast<uInt>(file.content.size()))));
    put_bytes(facts, static_cast<std::uint32_t>(packed.size()));
    put_bytes(facts, file.size > 0 ? file.size : static_cast<std::uint32_t>(file.content.size()));
    put_bytes(facts, static_cast<std::uint16_t>(file.name.size()));
    put_bytes<std::uint16_t>(facts, 0);
    directory += std::string("PK\x01\x02\x14\0", 6) + facts + std::string(10, '\0');
    put_bytes(directory, static_cast<std::uint32_t>(out.size()));
    directory += file.name;
    out += "PK\x03\x04" + facts + file.name + packed;
  }
  const auto offset = static_cast<std::uint32_t>(out.size());
  out += directory + std::string("PK\x05\x06\0\0\0\0", 8);
  put_bytes(out, static_cast<std::uint16_t>(files.size()));
  put_bytes(out, static_cast<std::uint16_t>(files.size()));
  put_bytes(out, static_cast<std::uint32_t>(directory.size()));
  put_bytes(out, offset);
  put_bytes<std::uint16_t>(out, 0);
  return out;
}

template <typename T>
std::string npy_of(const std::vector<T>& values, std::vector<std::uint64_t> row) {
  const TempDir dir = *TempDir::create();
  auto writer = NpyWriter::create(dir.path() / "a.npy", npy_type<T>(), std::move(row));
  REQUIRE(writer.has_value());
  REQUIRE(writer->append(std::span<const T>(values)).has_value());
  REQUIRE(writer->close().has_value());
  return content_of(dir.path() / "a.npy");
}

std::string many_rows(int count) {
  std::string text = "id,group,x\n";
  for (int i = 0; i < count; ++i) text += fmt::format("{},g{},{}.5\n", i, i / 10, i * 7);
  return text;
}

}  // namespace

TEST_CASE("types are those that fit all values of a column") {
  Taken taken(
      "whole,real,day,stamp,flag,word,label,empty,big,mixed\n"
      "1,1.5,2024-01-02,2024-01-02T03:04:05Z,true,red,007,,18446744073709551615,1\n"
      "-2,2,2024-02-29,2024-01-02 03:04:05+01:00,False,blue,008,NA,18446744073709551616,x\n"
      "9007199254740993,-3e-2,,2024-01-02T03:04:05.678,TRUE,red,009,NULL,1,2\n",
      unsplit());
  taken.run();
  CHECK(taken.type("whole") == ColumnType::Integer);
  CHECK(taken.type("real") == ColumnType::Number);
  CHECK(taken.type("day") == ColumnType::Date);
  CHECK(taken.type("stamp") == ColumnType::Date);
  CHECK(taken.type("flag") == ColumnType::Category);
  CHECK(taken.type("word") == ColumnType::Category);
  CHECK(taken.type("label") == ColumnType::Category);
  CHECK(taken.type("empty") == ColumnType::Category);
  CHECK(taken.type("big") == ColumnType::Category);
  CHECK(taken.type("mixed") == ColumnType::Category);
  // 2^53 + 1 stays what it is.
  CHECK(taken.column<std::int64_t>("whole") == std::vector<std::int64_t>{1, -2, 9007199254740993});
  CHECK(taken.column<std::int64_t>("day") ==
        std::vector<std::int64_t>{1704153600000, 1709164800000, INT64_MIN});
  CHECK(taken.column<std::int64_t>("stamp") ==
        std::vector<std::int64_t>{1704164645000, 1704161045000, 1704164645678});
  CHECK(taken.schema.columns[taken.index("flag")].categories ==
        std::vector<std::string>{"false", "true"});
  CHECK(taken.categories("flag") == std::vector<std::string>{"true", "false", "true"});
  CHECK(taken.categories("word") == std::vector<std::string>{"red", "blue", "red"});
  CHECK(taken.categories("label") == std::vector<std::string>{"007", "008", "009"});
  CHECK(taken.column<std::int32_t>("empty") == std::vector<std::int32_t>{-1, -1, -1});
}

TEST_CASE("quotes, line ends, marks, blank lines and other alphabets are read as they are meant") {
  Taken taken(
      "\xEF\xBB\xBFname,\"a \"\"b\"\"\",text\r\n"
      "Müller,1,\"two\r\nlines, and a comma\"\r\n"
      "\r\n"
      "\"\",2,\"NA\"\r\n"
      "日本,3,plain\r\n",
      [] {
        IngestOptions options = unsplit();
        options.types = {{"text", ColumnType::Text}};
        return options;
      }());
  CHECK(taken.run().bad_rows == 0);
  CHECK(taken.schema.columns[1].name == "a \"b\"");
  CHECK(taken.categories("name") == std::vector<std::string>{"Müller", "", "日本"});
  CHECK(taken.texts("text") ==
        std::vector<std::string>{"two\r\nlines, and a comma", "NA", "plain"});
}

TEST_CASE("other delimiters are found in the header, or named") {
  for (const std::string_view delimiter : {";", "\t", "|"}) {
    Taken taken(fmt::format("a{0}\"b,c\"{0}d\n1{0}2{0}3\n", delimiter), unsplit());
    taken.run();
    CHECK(taken.schema.columns.size() == 3);
  }
  IngestOptions named = unsplit();
  named.delimiter = "~";
  Taken taken("a~b\n1,5~2\n", named);
  taken.run();
  CHECK(taken.schema.columns.size() == 2);
}

TEST_CASE("bad rows are told with their lines, up to a limit") {
  const std::string text =
      "a,b\n"
      "1,\"x\ny\"\n"  // lines 2 and 3
      "2\n"           // line 4
      "\n"
      ",\n"      // line 6, no row either
      "3,z,4\n"  // line 7
      "4,w\n";
  IngestOptions options = unsplit();
  {
    Taken taken(text, options);
    const IngestReport& report = taken.run();
    CHECK(report.bad_rows == 2);
    CHECK(report.train == 2);
    REQUIRE(report.shown.size() == 2);
    CHECK(report.shown[0].row == 2);
    CHECK(report.shown[0].line == 4);
    CHECK(report.shown[0].error == "it has 1 fields, the header has 2");
    CHECK(report.shown[1].row == 3);
    CHECK(report.shown[1].line == 7);
    CHECK(report.shown[1].input == "3,z,4");
  }
  options.max_bad_rows = 1;
  Taken taken(text, options);
  const IngestReport& report = taken.run();
  REQUIRE(report.refused.has_value());
  CHECK(report.refused->reason == "invalid_input");
  CHECK(report.refused->message.contains("max_bad_rows = 1"));
}

TEST_CASE("a bad row ends in the line in which its last field does") {
  Taken taken("a,b\n\"1\n2\n3\",4,5\n6\n7,8\n", unsplit());
  const IngestReport& report = taken.run();
  REQUIRE(report.shown.size() == 2);
  CHECK(report.shown[0].line == 2);
  CHECK(report.shown[1].line == 5);
}

TEST_CASE("lines are counted that end in returns alone, and across blocks") {
  for (const std::string_view end : {"\r", "\r\n", "\n"}) {
    std::string text = fmt::format("a,\"b\n\"{}", end);
    for (int i = 0; i < 90'000; ++i) text += fmt::format("{},2{}", i, end);
    Taken taken(text + fmt::format("3{}", end), unsplit());
    const IngestReport& report = taken.run();
    REQUIRE(report.shown.size() == 1);
    CHECK(report.shown[0].row == 90'001);
    CHECK(report.shown[0].line == 90'003);
  }
}

TEST_CASE("a category is no longer than one may be, whatever its bytes become as UTF-8") {
  const std::string latin(100, '\xE9');
  const std::string text = "word\n" + latin + "\nx\n";
  Taken taken(text, unsplit());
  taken.run();
  CHECK(taken.type("word") == ColumnType::Text);
  IngestOptions options = unsplit();
  options.types = {{"word", ColumnType::Category}};
  Taken named(text, options);
  named.run();
  REQUIRE(named.report.refused.has_value());
  CHECK(named.report.refused->message.contains("one longer than 256 bytes"));
}

TEST_CASE("what does not fit a named type is a bad row") {
  IngestOptions options = unsplit();
  options.types = {{"a", ColumnType::Integer}};
  Taken taken("a,b\n1,x\noops,y\n3.0,z\n\"\",z\n", options);
  const IngestReport& report = taken.run();
  CHECK(report.bad_rows == 1);
  REQUIRE(report.shown.size() == 1);
  CHECK(report.shown[0].line == 3);
  CHECK(report.shown[0].error == "'a': 'oops' is no whole number of 64 bits");
  CHECK(taken.column<std::int64_t>("a") == std::vector<std::int64_t>{1, 3, INT64_MIN});
}

TEST_CASE("words of one's own stand for no value, and a nearly numeric column is pointed out") {
  std::string text = "a\n";
  for (int i = 0; i < 50; ++i) text += fmt::format("{}\n", i);
  text += "?\n";
  {
    Taken taken(text, unsplit());
    taken.run();
    CHECK(taken.type("a") == ColumnType::Text);
    REQUIRE(taken.report.notes.size() == 1);
    CHECK(taken.report.notes[0].contains("row 51 has '?'"));
  }
  IngestOptions options = unsplit();
  options.missing = {"?"};
  Taken taken(text, options);
  taken.run();
  CHECK(taken.type("a") == ColumnType::Integer);
  CHECK(taken.statistics[0]["missing"] == 1);
}

TEST_CASE("files that cannot be are refused in words") {
  const std::vector<std::pair<std::string, std::string_view>> cases = {
      {"", "it has no header"},
      {"a,b\n", "no rows"},
      {"a,a\n1,2\n", "'a' is there twice"},
      {std::string("a\0b\n1\n", 6), "no text"},
      {"PK\x03\x04zip", "no text"},
      {"a,b\n\"1,2\n" + std::string(9 << 20U, 'x'), "is a quote not closed"},
      {"a\n" + std::string(9 << 20U, 'x') + "\n", "longer than 8 MiB"},
  };
  for (const auto& [text, wanted] : cases) {
    Taken taken(text, unsplit());
    const IngestReport& report = taken.run();
    REQUIRE(report.refused.has_value());
    CAPTURE(report.refused->message);
    CHECK(report.refused->reason == "invalid_input");
    CHECK(report.refused->message.contains(wanted));
  }
  IngestOptions options = unsplit();
  options.target = "class";
  Taken taken("a,b\n1,2\n", options);
  taken.run();
  REQUIRE(taken.report.refused.has_value());
  CHECK(taken.report.refused->message == "there is no column 'class'; the file has 'a', 'b'");
}

TEST_CASE("JSON lines may lack members and have them in any order") {
  Taken taken(
      "{\"a\": 1, \"b\": \"x\"}\n"
      "{\"b\": \"y\", \"a\": 2.5, \"late\": true}\r\n"
      "\n"
      "[1]\n"
      "{\"a\": null, \"nested\": {\"k\": [1, 2]}}\n"
      "{\"a\": 18446744073709551615",
      unsplit(SourceFormat::Jsonl));
  const IngestReport& report = taken.run();
  CHECK(report.bad_rows == 2);
  REQUIRE(report.shown.size() == 2);
  CHECK(report.shown[0].line == 4);
  CHECK(report.shown[0].error == "no JSON object");
  CHECK(report.shown[1].line == 6);
  CHECK(taken.schema.columns.size() == 4);
  const auto numbers = taken.column<double>("a");
  REQUIRE(numbers.size() == 3);
  CHECK(numbers[1] == 2.5);
  CHECK(std::isnan(numbers[2]));
  CHECK(taken.categories("late") == std::vector<std::string>{"", "true", ""});
  CHECK(taken.categories("nested") == std::vector<std::string>{"", "", "{\"k\":[1,2]}"});
}

TEST_CASE("the same content has the same split, whatever comes before or after it") {
  const IngestOptions options;
  Taken first(many_rows(2000), options);
  first.run();
  CHECK(first.report.test > 300);
  CHECK(first.report.test < 500);
  CHECK(first.report.valid > 130);
  CHECK(first.report.valid < 270);
  Taken twice(many_rows(2000), options);
  twice.add_source(many_rows(1000));
  twice.run();
  CHECK(twice.report.train + twice.report.valid + twice.report.test == 3000);
  std::map<std::int64_t, std::string> of_id;
  const auto collect = [&](const Taken& taken) {
    for (const char* split : {"train", "valid", "test"}) {
      const auto column = NpyColumn::open(taken.work() / "part" / split / "c0.npy");
      REQUIRE(column.has_value());
      for (const std::int64_t id : column->as<std::int64_t>())
        CHECK(of_id.try_emplace(id, split).first->second == split);
    }
  };
  collect(first);
  collect(twice);
  // Another key, another split.
  Taken other(many_rows(2000), options);
  other.job.key = {.k0 = 3, .k1 = 4};
  other.run();
  CHECK(other.values<std::uint64_t>("row.npy") != first.values<std::uint64_t>("row.npy"));
}

TEST_CASE("a group is in one split") {
  IngestOptions options;
  options.split = {.by = SplitBy::Group, .column = "group"};
  Taken taken(many_rows(2000), options);
  taken.run();
  std::map<std::int32_t, std::string> of_group;
  for (const char* split : {"train", "valid", "test"}) {
    const auto column = NpyColumn::open(taken.work() / "part" / split / "c1.npy");
    REQUIRE(column.has_value());
    CHECK(column->rows() > 0);
    CHECK(column->rows() % 10 == 0);
    for (const std::int32_t group : column->as<std::int32_t>())
      CHECK(of_group.try_emplace(group, split).first->second == split);
  }
}

TEST_CASE("by time the last rows are the test, and those before them the validation") {
  std::string text = "day,x\n";
  for (int i = 1; i <= 28; ++i) text += fmt::format("2024-02-{:02},{}\n", 29 - i, i);
  text += ",99\n";
  IngestOptions options;
  options.split = {.by = SplitBy::Time, .column = "day", .valid = 0.25, .test = 0.25};
  Taken taken(text, options);
  taken.run();
  CHECK(taken.report.test == 8);
  CHECK(taken.report.valid == 7);
  CHECK(taken.schema.event_time == "day");
  const auto test = NpyColumn::open(taken.work() / "part/test/c0.npy");
  REQUIRE(test.has_value());
  for (const std::int64_t day : test->as<std::int64_t>())
    CHECK(day >= *taken.schema.split.test_from);
  const auto train = NpyColumn::open(taken.work() / "part/train/c0.npy");
  REQUIRE(train.has_value());
  for (const std::int64_t day : train->as<std::int64_t>())
    CHECK(day < *taken.schema.split.valid_from);
  options.split.column = "x";
  Taken words("x\nred\nblue\n", options);
  words.run();
  REQUIRE(words.report.refused.has_value());
  CHECK(words.report.refused->message.contains("'x' is a category"));
}

TEST_CASE("statistics are those of all rows") {
  Taken taken("n,c,t\n1,a,one\n2,a,three\n3,b,\n,a,äöü\ninf,a,x\n", [] {
    IngestOptions options;
    options.types = {{"t", ColumnType::Text}, {"n", ColumnType::Number}};
    return options;
  }());
  taken.run();
  const Json& n = taken.statistics[0];
  CHECK(n["count"] == 4);
  CHECK(n["missing"] == 1);
  CHECK(n["infinite"] == 1);
  CHECK(n["distinct"] == 4);
  CHECK(n["min"] == 1.0);
  CHECK(n["max"] == 3.0);
  CHECK(n["mean"] == 2.0);
  CHECK(n["deviation"] == 1.0);
  const Json& c = taken.statistics[1];
  CHECK(c["top"][0]["value"] == "a");
  CHECK(c["top"][0]["count"] == 4);
  CHECK(c["distinct"] == 2);
  const Json& t = taken.statistics[2];
  CHECK(t["max"] == 5.0);
  CHECK(t["missing"] == 1);
  CHECK(t["quantiles"].size() == 7);
}

TEST_CASE("what is appended keeps the types, adds categories behind, and sums up") {
  IngestOptions options = unsplit();
  Taken first("x,c\n1,b\n2,d\n", options);
  first.run();
  Taken next("c,x,more\na,3,q\nd,oops,q\nb,5.5,q\n,7,q\n", options);
  next.job.mode = IngestMode::Append;
  REQUIRE(make_directories(next.source() / "base").has_value());
  for (const char* name : {"schema.json", "sketches.bin"}) {
    std::ofstream(next.source() / "base" / name, std::ios::binary)
        << content_of(first.work() / "snapshot" / name);
  }
  const IngestReport& report = next.run();
  REQUIRE_FALSE(report.refused.has_value());
  CHECK(report.bad_rows == 2);  // 'oops', and 5.5 is no integer
  CHECK(next.schema.columns[1].categories == std::vector<std::string>{"b", "d", "a"});
  CHECK(next.column<std::int64_t>("x") == std::vector<std::int64_t>{3, 7});
  CHECK(next.statistics[0]["count"] == 4);
  CHECK(next.statistics[0]["mean"] == 3.25);
  CHECK(next.statistics[0]["max"] == 7);
  REQUIRE(report.notes.size() == 1);
  CHECK(report.notes[0].contains("'more'"));
  Taken lacking("c\na\n", options);
  lacking.job.mode = IngestMode::Append;
  REQUIRE(make_directories(lacking.source() / "base").has_value());
  for (const char* name : {"schema.json", "sketches.bin"}) {
    std::ofstream(lacking.source() / "base" / name, std::ios::binary)
        << content_of(first.work() / "snapshot" / name);
  }
  lacking.run();
  REQUIRE(lacking.report.refused.has_value());
  CHECK(lacking.report.refused->message.contains("lacks the column 'x'"));
}

TEST_CASE("a part is no larger than it may be") {
  Taken taken(many_rows(1000), unsplit());
  taken.job.max_bytes = Bytes{10'000};
  taken.run();
  REQUIRE(taken.report.refused.has_value());
  CHECK(taken.report.refused->reason == "too_large");
}

TEST_CASE("sketches of columns are their bytes, and no others") {
  Taken taken("a,b\n1,x\n2,y\n", unsplit());
  taken.run();
  const std::string bytes = content_of(taken.work() / "snapshot/sketches.bin");
  const auto parsed = parse_sketches(bytes);
  REQUIRE(parsed.has_value());
  CHECK(sketches_of(*parsed) == bytes);
  CHECK_FALSE(parse_sketches(bytes + "x").has_value());
  CHECK_FALSE(parse_sketches(bytes.substr(0, bytes.size() - 1)).has_value());
}

TEST_CASE("ARFF has its types in its header") {
  Taken taken(
      "% a comment\n@RELATION 'some name'\n\n"
      "@attribute 'the size' NUMERIC\n@attribute colour {red, 'light blue', \"x,y\"}\n"
      "@attribute words string\n@attribute day date \"yyyy-MM-dd\"\n@attribute whole integer\n"
      "@data\n"
      "1.5, red, 'it\\'s', 2024-01-02, 1\n"
      "% another\n"
      "?,'light blue',?,?,2\n"
      "2,green,a,2024-01-02,3\n"
      "3,\"x,y\",b c,2024-01-02\n"
      "4,red,'open,2024-01-02,3\n",
      unsplit(SourceFormat::Arff));
  const IngestReport& report = taken.run();
  REQUIRE_FALSE(report.refused.has_value());
  CHECK(report.bad_rows == 3);
  REQUIRE(report.shown.size() == 3);
  CHECK(taken.type("the size") == ColumnType::Number);
  CHECK(taken.type("whole") == ColumnType::Integer);
  CHECK(taken.type("day") == ColumnType::Date);
  CHECK(taken.schema.columns[1].categories == std::vector<std::string>{"red", "light blue", "x,y"});
  CHECK(taken.categories("colour") == std::vector<std::string>{"red", "light blue"});
  CHECK(taken.texts("words") == std::vector<std::string>{"it's", ""});
}

TEST_CASE("ARFF that is sparse, or has other types, is refused") {
  for (const std::string_view text :
       {"@attribute a numeric\n", "@attribute a relational\n@data\n", "@data\n1\n", "nonsense\n",
        "@attribute a {x,x}\n@data\n", "@attribute a {x\n@data\n"}) {
    Taken taken(text, unsplit(SourceFormat::Arff));
    CAPTURE(text);
    CHECK(taken.run().refused.has_value());
  }
  Taken sparse("@attribute a numeric\n@data\n{0 1}\n", unsplit(SourceFormat::Arff));
  REQUIRE(sparse.run().refused.has_value());
}

TEST_CASE("npz arrays are columns side by side, stored or deflated") {
  std::vector<double> x;
  std::vector<std::int64_t> y;
  std::vector<std::uint8_t> pixels;
  for (int i = 0; i < 20'000; ++i) {
    x.push_back(i);
    x.push_back(i == 7 ? std::nan("") : -i);
    y.push_back(i % 3);
    for (int p = 0; p < 4; ++p) pixels.push_back(static_cast<std::uint8_t>(i + p));
  }
  Taken taken(zip_of({{.name = "x.npy", .content = npy_of(x, {2}), .deflate = true},
                      {.name = "y.npy", .content = npy_of(y, {})},
                      {.name = "img.npy", .content = npy_of(pixels, {2, 2}), .deflate = true}}),
              unsplit(SourceFormat::Npz));
  const IngestReport& report = taken.run();
  REQUIRE_FALSE(report.refused.has_value());
  CHECK(report.train == 20'000);
  CHECK(taken.type("x_1") == ColumnType::Number);
  CHECK(taken.schema.columns[3].shape == std::vector<std::uint32_t>{2, 2, 1});
  CHECK(taken.column<std::int64_t>("y") == y);
  CHECK(taken.column<std::uint8_t>("img") == pixels);
  CHECK(taken.statistics[1]["missing"] == 1);
}

TEST_CASE("hostile archives are refused") {
  const std::string array = npy_of(std::vector<double>{1, 2}, {});
  std::string pickle = array;
  pickle.replace(pickle.find("<f8"), 3, "|O'");
  std::string cut = zip_of({{.name = "a.npy", .content = array}});
  const std::vector<std::string> archives = {
      "",
      "PK\x05\x06",
      cut.substr(0, cut.size() - 1),
      cut.substr(10),
      zip_of({}),
      zip_of({{.name = "../a.npy", .content = array}}),
      zip_of({{.name = "/a.npy", .content = array}}),
      zip_of({{.name = "a/../../b.npy", .content = array}}),
      zip_of({{.name = "a.npy", .content = pickle}}),
      zip_of({{.name = "a.npy", .content = array},
              {.name = "b.npy", .content = npy_of(std::vector<double>{1}, {})}}),
      zip_of({{.name = "a.txt", .content = array}}),
      zip_of({{.name = "a.npy", .content = array, .deflate = true, .size = 100'000}}),
      zip_of({{.name = "a.npy", .content = array, .deflate = true, .size = 0xF000'0000}}),
      zip_of({{.name = "a.npy", .content = array + "more"}}),
  };
  for (std::size_t i = 0; i < archives.size(); ++i) {
    CAPTURE(i);
    Taken taken(archives[i], unsplit(SourceFormat::Npz));
    const IngestReport& report = taken.run();
    REQUIRE(report.refused.has_value());
    CHECK(report.refused->reason == "invalid_input");
  }
  std::string damaged = zip_of({{.name = "a.npy", .content = array}});
  damaged[damaged.find("\x93NUMPY") + array.size() - 3] ^= 1;
  Taken taken(damaged, unsplit(SourceFormat::Npz));
  REQUIRE(taken.run().refused.has_value());
  CHECK(taken.report.refused->message.contains("checksum"));
}

TEST_CASE("entries that share their bytes, and bombs, are no archive") {
  const std::string zeros(20 << 20U, '\0');
  const std::string bomb = zip_of({{.name = "a", .content = zeros, .deflate = true}});
  CHECK(read_zip(bomb).has_value());  // deflate alone gives no more than 1032 times
  CHECK_FALSE(read_zip(bomb, {.expanded = 1 << 20U}).has_value());
  CHECK_FALSE(read_zip(bomb, {.ratio = 100}).has_value());
  CHECK_FALSE(read_zip(bomb, {.entries = 0}).has_value());
  // The directory names the one entry twice.
  std::string twice = zip_of({{.name = "a", .content = std::string(5000, 'x')}});
  const std::size_t directory = twice.find("PK\x01\x02");
  const std::size_t end = twice.find("PK\x05\x06");
  const std::string entry = twice.substr(directory, end - directory);
  std::string doubled = twice.substr(0, end) + entry + twice.substr(end);
  const std::size_t at = end + entry.size();
  doubled[at + 8] = doubled[at + 10] = 2;
  const auto size = static_cast<std::uint32_t>(2 * entry.size());
  doubled.replace(at + 12, 4, std::string(reinterpret_cast<const char*>(&size), 4));
  const auto read = read_zip(doubled);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().message.contains("overlap"));
}
