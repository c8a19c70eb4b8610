#include "runner/batch/table_writer.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runner/batch/prediction.h"
#include "runner/batch/testing/tables.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

// Three rows, of which the second failed; two outputs: FP32 [n,2] and BYTES [n].
std::string written(const Path& folder, TableFormat format) {
  const Signature signature{
      .inputs = {{"x", DataType::Fp32, {-1}}},
      .outputs = {{"p", DataType::Fp32, {-1, 2}}, {"label", DataType::Bytes, {-1}}}};
  TableChunk chunk;
  chunk.rows = 3;
  chunk.good = {0, 2};
  const std::vector<float> values = {0.25F, 1, 3, 4};
  std::string body =
      R"({"outputs":[{"name":"p","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}},)"
      R"({"name":"label","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":13}}]})";
  const std::uint64_t header = body.size();
  body.append(reinterpret_cast<const char*>(values.data()), 16);
  body.append("\x03\0\0\0a,b\x02\0\0\0\"c", 13);
  auto rows = decode_rows(body, header, signature, 2);
  REQUIRE_MESSAGE(rows.has_value(), rows.error().message);
  std::map<std::uint64_t, PredictedRows> predicted;
  predicted.emplace(0, *std::move(rows));
  const auto fields = prediction_fields(signature);
  const auto batch = output_rows(chunk, predicted, fields, signature);
  REQUIRE_MESSAGE(batch.has_value(), batch.error().message);
  const Path path = folder / "input";
  const auto writer = create_table(path, format, fields);
  REQUIRE(writer.has_value());
  const Status wrote = (*writer)->write(**batch);
  REQUIRE_MESSAGE(wrote.has_value(), wrote.error().message);
  const Status closed = (*writer)->close();
  REQUIRE_MESSAGE(closed.has_value(), closed.error().message);
  return text_of_file(path);
}

}  // namespace

TEST_CASE("lists, texts and rows without a prediction are written in each format") {
  const TempDir dir = *TempDir::create();
  CHECK(written(dir.path(), TableFormat::Csv) ==
        "p_0,p_1,label\n0.25,1,\"a,b\"\n,,\n3,4,\"\"\"c\"\n");
  CHECK(written(dir.path(), TableFormat::Jsonl) ==
        "{\"p\":[0.25,1],\"label\":\"a,b\"}\n{\"p\":null,\"label\":null}\n"
        "{\"p\":[3,4],\"label\":\"\\\"c\"}\n");
  written(dir.path(), TableFormat::Parquet);
  auto job = pair_job(TableFormat::Parquet);
  job.columns = {{"x", {"p"}}};
  const auto read = read_table(dir.path(), job);
  REQUIRE_MESSAGE(read.has_value(), read.error().message);
  CHECK(read->floats == std::vector<float>{0.25, 1, 3, 4});
  CHECK(read->failures == std::vector<std::string>{"2: column 'p' is no list of 2 values"});
}

TEST_CASE("an output with two columns of one name is refused") {
  const TempDir dir = *TempDir::create();
  const std::vector<KeptField> fields = {{"y", KeptKind::Text, arrow::utf8()},
                                         {"y", KeptKind::Typed, arrow::float32()}};
  CHECK_FALSE(create_table(dir.path() / "part", TableFormat::Csv, fields).has_value());
}
