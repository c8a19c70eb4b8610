#include "runner/batch/table_reader.h"

#include <fmt/format.h>

#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "core/reason.h"
#include "runner/batch/testing/tables.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

struct Folder {
  TempDir dir = *TempDir::create();
  const Path& path() const { return dir.path(); }

  Result<ReadTable> read(const BatchJob& job, std::string_view text) const {
    write_input(path(), job, text);
    return read_table(path(), job);
  }
};

using Floats = std::vector<float>;

std::string many_rows(TableFormat format, int rows) {
  std::string text = format == TableFormat::Csv ? "a,b\n" : "";
  for (int i = 0; i < rows; ++i) {
    text += format == TableFormat::Csv ? fmt::format("{},{}.5\n", i, i)
                                       : fmt::format("{{\"a\":{},\"b\":{}.5}}\n", i, i);
  }
  return text;
}

}  // namespace

TEST_CASE("rows of CSV become rows of a tensor") {
  const Folder folder;
  const auto job = pair_job(TableFormat::Csv);
  const auto read = folder.read(job, "a,b\n1,2.5\n-3e2,  4 \n");
  REQUIRE(read.has_value());
  CHECK(read->floats == Floats{1, 2.5, -300, 4});
  CHECK(read->failures.empty());
}

TEST_CASE("a byte order mark, CRLF, empty lines and a last line without its end are read over") {
  const Folder folder;
  const auto read = folder.read(pair_job(TableFormat::Csv),
                                "\xEF\xBB\xBF"
                                "a,b\r\n1,2\r\n\r\n3,4");
  REQUIRE(read.has_value());
  CHECK(read->floats == Floats{1, 2, 3, 4});
}

TEST_CASE("bad rows of CSV fail, each with its number and why; the others pass") {
  const Folder folder;
  const auto read =
      folder.read(pair_job(TableFormat::Csv), "a,b\n1,2\nx,3\n4\n5,6\n7,\n8,9,10\n1e99,0\n11,12\n");
  REQUIRE(read.has_value());
  CHECK(read->rows == 8);
  CHECK(read->floats == Floats{1, 2, 5, 6, 11, 12});
  CHECK(read->failures == std::vector<std::string>{"2: column 'a': 'x' is no FP32",
                                                   "3: it has 1 fields, the header has 2",
                                                   "5: column 'b': no value, where FP32 is needed",
                                                   "6: it has 3 fields, the header has 2",
                                                   "7: column 'a': '1e99' is no FP32"});
  CHECK(read->failed_text[0] == "x,3");
  CHECK(read->failed_text[1] == "4");
}

TEST_CASE("quoted fields may hold commas, quotes and line ends") {
  const Folder folder;
  auto job = pair_job(TableFormat::Csv);
  job.keep = {.all = false, .names = {"note"}};
  const auto read = folder.read(job, "note,a,b\n\"one,\n\"\"two\"\"\",1,2\n\"\",3,4\n,5,6\n");
  REQUIRE(read.has_value());
  CHECK(read->floats == Floats{1, 2, 3, 4, 5, 6});
  const auto& notes = static_cast<const arrow::StringArray&>(*read->chunks[0].kept[0]);
  CHECK(notes.GetView(0) == "one,\n\"two\"");
  CHECK(notes.GetView(1).empty());
  CHECK(notes.IsNull(2));
}

TEST_CASE("a file without rows has none") {
  const Folder folder;
  CHECK(folder.read(pair_job(TableFormat::Csv), "a,b\n")->rows == 0);
}

TEST_CASE("empty files are refused") {
  const Folder folder;
  for (const TableFormat format : {TableFormat::Csv, TableFormat::Jsonl, TableFormat::Parquet}) {
    const auto read = folder.read(pair_job(format), "");
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().reason == reason::kInvalidInput);
  }
}

TEST_CASE("a row longer than may be is refused, and told where") {
  const Folder folder;
  std::string text = "a,b\n1,2\n\"";
  text.append(kMaxBlock + 100, 'z');
  const auto read = folder.read(pair_job(TableFormat::Csv), text);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().message.find("row 2 is longer than") != std::string::npos);
  std::string lines = "{\"a\":1,\"b\":2}\n{\"c\":\"";
  lines.append(kMaxBlock + 100, 'z');
  const auto jsonl = folder.read(pair_job(TableFormat::Jsonl), lines);
  REQUIRE_FALSE(jsonl.has_value());
  CHECK(jsonl.error().message.find("row 2 is longer than") != std::string::npos);
}

TEST_CASE("JSON lines: members in any order, lists, and lines that are no JSON") {
  const Folder folder;
  const auto job = pair_job(TableFormat::Jsonl);
  const auto read =
      folder.read(job,
                  "{\"a\":1,\"b\":2.5,\"c\":null}\n\n{\"b\":4,\"z\":[1],\"a\":3}\r\n"
                  "{\"a\":1\n[1]\n{\"a\":\"1\",\"b\":2}\n{\"a\":1}\n{\"a\":5,\"b\":6}");
  // Three columns, of which the function takes two: by what names?
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().message.find("The file has 3 columns: a, b, c") != std::string::npos);
  auto told = job;
  told.columns = {{"x", {"a", "b"}}};
  const auto again = read_table(folder.path(), told);
  REQUIRE(again.has_value());
  CHECK(again->floats == Floats{1, 2.5, 3, 4, 5, 6});
  REQUIRE(again->failures.size() == 4);
  CHECK(again->failures[0].starts_with("3: no JSON"));
  CHECK(again->failures[1] == "4: no JSON object");
  CHECK(again->failures[2] == "5: column 'a': '1' is no FP32");
  CHECK(again->failures[3] == "6: column 'b': no value, where FP32 is needed");
  CHECK(again->failed_text[1] == "[1]");
}

TEST_CASE("a list column makes an input of its name") {
  const Folder folder;
  const auto read = folder.read(pair_job(TableFormat::Jsonl),
                                "{\"id\":1,\"x\":[1,2]}\n{\"id\":2,\"x\":[3]}\n"
                                "{\"id\":3,\"x\":[[4],[5]]}\n{\"id\":4,\"x\":7}\n");
  REQUIRE(read.has_value());
  CHECK(read->floats == Floats{1, 2, 4, 5});
  CHECK(read->failures == std::vector<std::string>{"2: column 'x' is no list of 2 values",
                                                   "4: column 'x' is no list of 2 values"});
}

TEST_CASE("what is read on from a position is what one run reads") {
  const Folder folder;
  for (const TableFormat format : {TableFormat::Csv, TableFormat::Jsonl, TableFormat::Parquet}) {
    CAPTURE(to_string(format));
    auto job = pair_job(format);
    job.columns = {{"x", {"a", "b"}}};
    job.chunk_rows = 100;
    if (format == TableFormat::Parquet) {
      write_parquet(folder.path(), job, 1050, 333);
    } else {
      write_input(folder.path(), job, many_rows(format, 1050));
    }
    const auto whole = read_table(folder.path(), job);
    REQUIRE(whole.has_value());
    REQUIRE(whole->rows == 1050);
    REQUIRE(whole->chunks.size() >= 11);
    for (const std::size_t at : {std::size_t{0}, std::size_t{3}, whole->chunks.size() - 1}) {
      auto rest = job;
      rest.position = whole->chunks[at].position;
      const auto read = read_table(folder.path(), rest);
      REQUIRE(read.has_value());
      const std::uint64_t before = whole->chunks[at].first_row + whole->chunks[at].rows;
      CHECK(read->rows == 1050 - before);
      CHECK(read->floats == Floats(whole->floats.begin() + static_cast<std::ptrdiff_t>(2 * before),
                                   whole->floats.end()));
      if (!read->chunks.empty()) CHECK(read->chunks[0].first_row == before);
    }
    CHECK(whole->chunks.back().done_bytes == *mayfly::file_size(folder.path() / job.input));
  }
}

TEST_CASE("a position beyond the file is refused") {
  const Folder folder;
  auto job = pair_job(TableFormat::Csv);
  job.position = R"({"offset":1000,"row":3})";
  CHECK_FALSE(folder.read(job, "a,b\n1,2\n").has_value());
}

TEST_CASE("parquet: a damaged file is refused, or has the rows that it says") {
  const Folder folder;
  auto job = pair_job(TableFormat::Parquet);
  job.columns = {{"x", {"a", "b"}}};
  write_parquet(folder.path(), job, 10, 10);
  const std::string whole = text_of_file(folder.path() / job.input);
  std::size_t refused = 0;
  for (std::size_t at = 4; at < 100; ++at) {
    CAPTURE(at);
    std::string damaged = whole;
    damaged[at] = '#';
    write_input(folder.path(), job, damaged);
    try {
      const auto read = read_table(folder.path(), job);
      if (read) CHECK(read->rows == 10);
      refused += read ? 0 : 1;
    } catch (const std::exception&) {
      ++refused;
    }
  }
  CHECK(refused > 0);
}

TEST_CASE("parquet: lists, kept columns of their type, and texts where numbers are needed") {
  const Folder folder;
  auto job = pair_job(TableFormat::Parquet);
  write_parquet(folder.path(), job, 10, 4);
  job.columns = {{"x", {"xs"}}};
  job.keep = {.all = false, .names = {"id"}};
  const auto read = read_table(folder.path(), job);
  REQUIRE(read.has_value());
  REQUIRE(read->floats.size() == 20);
  CHECK(read->floats[19] == 9.5F);
  CHECK(read->chunks[0].kept[0]->type_id() == arrow::Type::STRING);
  job.columns = {{"x", {"a", "id"}}};
  const auto texts = read_table(folder.path(), job);
  REQUIRE(texts.has_value());
  CHECK(texts->failures.size() == 10);
  CHECK(texts->failures[2] == "3: column 'id': 'r2' is no FP32");
}

TEST_CASE("every datatype takes what fits it and nothing else") {
  const Folder folder;
  struct Case {
    DataType type;
    std::string good;
    std::string bad;
  };
  const std::vector<Case> cases = {
      {DataType::Bool, "true", "2"},
      {DataType::Uint8, "255", "256"},
      {DataType::Uint16, "65535", "-1"},
      {DataType::Uint32, "4294967295", "4294967296"},
      {DataType::Uint64, "18446744073709551615", "1.5"},
      {DataType::Int8, "-128", "128"},
      {DataType::Int16, "-32768", "x"},
      {DataType::Int32, "-2147483648", "2147483648"},
      {DataType::Int64, "9223372036854775807", "1e3x"},
      {DataType::Fp16, "65504", "70000"},
      {DataType::Fp32, "1e-60", "1e60"},
      {DataType::Fp64, "1e300", "1e400"},
      {DataType::Bf16, "1.5", "one"},
  };
  for (const Case& one : cases) {
    CAPTURE(to_string(one.type));
    for (const TableFormat format : {TableFormat::Csv, TableFormat::Jsonl}) {
      auto job = pair_job(format);
      job.signature.inputs = {{"v", one.type, {-1}}};
      const std::string bad = one.bad.find('x') == std::string::npos && one.bad != "one"
                                  ? one.bad
                                  : fmt::format("\"{}\"", one.bad);
      const auto read =
          folder.read(job, format == TableFormat::Csv
                               ? fmt::format("v\n{}\n{}\n", one.good, one.bad)
                               : fmt::format("{{\"v\":{}}}\n{{\"v\":{}}}\n", one.good, bad));
      REQUIRE(read.has_value());
      CHECK(read->chunks[0].good == std::vector<std::uint32_t>{0});
      CHECK(read->failures.size() == 1);
      CHECK(read->chunks[0].inputs[0].bytes.size() == element_size(one.type));
    }
  }
}

TEST_CASE("a date is milliseconds where INT64 is wanted, and text where text is") {
  const Folder folder;
  auto job = pair_job(TableFormat::Csv);
  job.signature.inputs = {{"day", DataType::Int64, {-1}}, {"text", DataType::Bytes, {-1}}};
  const std::string rows = R"({"day":"2026-01-31","text":"2026-01-31"}
{"day":"2026-01-31T02:00:00.5+02:00","text":""}
{"day":1769817600000,"text":""}
{"day":"2026-02-30","text":""}
)";
  const auto csv =
      folder.read(job,
                  "day,text\n2026-01-31,2026-01-31\n2026-01-31T02:00:00.5+02:00,\n1769817600000,\n"
                  "2026-02-30,\n");
  job = pair_job(TableFormat::Jsonl);
  job.signature.inputs = {{"day", DataType::Int64, {-1}}, {"text", DataType::Bytes, {-1}}};
  const auto jsonl = folder.read(job, rows);
  for (const auto* read : {&csv, &jsonl}) {
    REQUIRE(read->has_value());
    CHECK((*read)->chunks[0].good == std::vector<std::uint32_t>{0, 1, 2});
    const auto& inputs = (*read)->chunks[0].inputs;
    std::vector<std::int64_t> days(3);
    REQUIRE(inputs[0].bytes.size() == days.size() * sizeof(std::int64_t));
    std::memcpy(days.data(), inputs[0].bytes.data(), inputs[0].bytes.size());
    CHECK(days == std::vector<std::int64_t>{1769817600000, 1769817600500, 1769817600000});
    CHECK(inputs[1].rows(0, 1).size() == 4 + 10);
  }
}

TEST_CASE("parquet: dates and instants are milliseconds, cut off towards the past") {
  const Folder folder;
  auto job = pair_job(TableFormat::Parquet);
  job.signature.inputs = {{"day", DataType::Int64, {-1}}, {"instant", DataType::Int64, {-1}}};
  write_parquet_dates(folder.path(), job);
  const auto read = read_table(folder.path(), job);
  REQUIRE_MESSAGE(read.has_value(), read.error().message);
  const auto milliseconds = [&](std::size_t input) {
    std::vector<std::int64_t> all(2);
    const auto& bytes = read->chunks.at(0).inputs.at(input).bytes;
    REQUIRE(bytes.size() == all.size() * sizeof(std::int64_t));
    std::memcpy(all.data(), bytes.data(), bytes.size());
    return all;
  };
  CHECK(milliseconds(0) == std::vector<std::int64_t>{1'769'817'600'000, -86'400'000});
  CHECK(milliseconds(1) == std::vector<std::int64_t>{1'769'817'600'500, -1});
}

TEST_CASE("BYTES are the text itself, each with its length") {
  const Folder folder;
  auto job = pair_job(TableFormat::Csv);
  job.signature.inputs = {{"t", DataType::Bytes, {-1, 2}}};
  const auto read = folder.read(job, "t_0,t_1\nab,\nc,d\n");
  REQUIRE(read.has_value());
  const TensorColumn& texts = read->chunks[0].inputs[0];
  CHECK(texts.rows(0, 1).size() == 10);
  CHECK(texts.rows(1, 1).size() == 10);
  CHECK(texts.rows(0, 2).size() == 20);
}

TEST_CASE("functions without types get each row as a JSON object") {
  const Folder folder;
  auto job = pair_job(TableFormat::Csv);
  job.signature = {};
  const auto read = folder.read(job, "n,t,q,e\n1.5,ab,\"7\",\n007,true,,x\n");
  REQUIRE(read.has_value());
  CHECK(read->chunks[0].documents ==
        std::vector<std::string>{R"({"n":1.5,"t":"ab","q":"7","e":null})",
                                 R"({"n":"007","t":true,"q":null,"e":"x"})"});
}

TEST_CASE("columns that do not fit are refused, with what there is and what is wanted") {
  const Folder folder;
  const auto refusal = [&](BatchJob job, std::string_view text) {
    const auto read = folder.read(job, text);
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().reason == reason::kInvalidInput);
    return read.error().message;
  };
  auto job = pair_job(TableFormat::Csv);
  CHECK(refusal(job, "a,b,c\n1,2,3\n").find("The function takes: x FP32 [-1,2]") !=
        std::string::npos);
  CHECK(refusal(job, "x_0,c\n1,3\n").find("there is no column 'x_1'") != std::string::npos);
  CHECK(refusal(job, "x_0,x_1,x_0\n1,3,4\n").find("two columns 'x_0'") != std::string::npos);
  job.columns = {{"x", {"a"}}};
  CHECK(refusal(job, "a,b\n1,2\n").find("takes 2 values of a row") != std::string::npos);
  job.columns = {{"z", {"a"}}};
  CHECK(refusal(job, "a,b\n1,2\n").find("no input 'z'") != std::string::npos);
  job = pair_job(TableFormat::Csv);
  job.keep = {.all = false, .names = {"id"}};
  CHECK(refusal(job, "a,b\n1,2\n").find("there is no column 'id'") != std::string::npos);
  job = pair_job(TableFormat::Csv);
  job.signature.inputs[0].shape = {3, 2};
  CHECK(refusal(job, "a,b\n1,2\n").find("stands for no rows") != std::string::npos);
}
