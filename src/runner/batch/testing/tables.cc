#include "runner/batch/testing/tables.h"

#include <arrow/array/builder_binary.h>
#include <arrow/array/builder_nested.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/io/file.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <fmt/format.h>
#include <parquet/arrow/writer.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

#include "base/check.h"

namespace mayfly {

namespace {

void write_table(const Path& folder, const BatchJob& job, const arrow::Table& table,
                 std::int64_t group) {
  const auto file = arrow::io::FileOutputStream::Open((folder / job.input).native()).ValueOrDie();
  CHECK(parquet::arrow::WriteTable(table, arrow::default_memory_pool(), file, group).ok());
  CHECK(file->Close().ok());
}

}  // namespace

BatchJob pair_job(TableFormat format) {
  BatchJob job;
  job.input = "input";
  job.format = format;
  job.output_format = format;
  job.signature = {.inputs = {{"x", DataType::Fp32, {-1, 2}}},
                   .outputs = {{"y", DataType::Fp32, {-1}}}};
  return job;
}

void write_input(const Path& folder, const BatchJob& job, std::string_view text) {
  std::ofstream file(folder / job.input, std::ios::binary);
  file << text;
}

void write_parquet(const Path& folder, const BatchJob& job, std::int64_t rows, std::int64_t group) {
  arrow::FloatBuilder a;
  arrow::FloatBuilder b;
  arrow::StringBuilder id;
  arrow::ListBuilder x(arrow::default_memory_pool(), std::make_shared<arrow::FloatBuilder>());
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto value = static_cast<float>(row);
    CHECK(a.Append(value).ok());
    CHECK(b.Append(value + 0.5F).ok());
    CHECK(id.Append(fmt::format("r{}", row)).ok());
    CHECK(x.Append().ok());
    auto& values = static_cast<arrow::FloatBuilder&>(*x.value_builder());
    CHECK(values.Append(value).ok());
    CHECK(values.Append(value + 0.5F).ok());
  }
  const auto schema = arrow::schema(
      {arrow::field("a", arrow::float32()), arrow::field("b", arrow::float32()),
       arrow::field("id", arrow::utf8()), arrow::field("xs", arrow::list(arrow::float32()))});
  const auto table =
      arrow::Table::Make(schema, {a.Finish().ValueOrDie(), b.Finish().ValueOrDie(),
                                  id.Finish().ValueOrDie(), x.Finish().ValueOrDie()});
  write_table(folder, job, *table, group);
}

void write_parquet_dates(const Path& folder, const BatchJob& job) {
  const auto micro = arrow::timestamp(arrow::TimeUnit::MICRO);
  arrow::Date32Builder day;
  arrow::TimestampBuilder instant(micro, arrow::default_memory_pool());
  CHECK(day.AppendValues({20'484, -1}).ok());
  CHECK(instant.AppendValues({1'769'817'600'500'000, -1}).ok());
  const auto schema =
      arrow::schema({arrow::field("day", arrow::date32()), arrow::field("instant", micro)});
  const auto table =
      arrow::Table::Make(schema, {day.Finish().ValueOrDie(), instant.Finish().ValueOrDie()});
  write_table(folder, job, *table, 2);
}

Result<ReadTable> read_table(const Path& folder, const BatchJob& job) {
  const auto reader = TRY(open_table(folder, job));
  ReadTable read;
  while (true) {
    auto chunk = TRY(reader->next());
    if (!chunk) return read;
    CHECK(chunk->first_row + chunk->rows > 0);
    read.rows += chunk->rows;
    if (!chunk->inputs.empty() && chunk->inputs[0].type == DataType::Fp32) {
      const auto bytes = chunk->inputs[0].rows(0, chunk->good.size());
      const std::size_t had = read.floats.size();
      read.floats.resize(had + bytes.size() / sizeof(float));
      if (!bytes.empty()) std::memcpy(read.floats.data() + had, bytes.data(), bytes.size());
    }
    for (const RowFailure& failure : chunk->failures) {
      read.failures.push_back(
          fmt::format("{}: {}", chunk->first_row + failure.row + 1, failure.error));
      read.failed_text.push_back(failure.input);
    }
    read.chunks.push_back(*std::move(chunk));
  }
}

std::string text_of_file(const Path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace mayfly
