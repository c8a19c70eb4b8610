#include <arrow/io/file.h>
#include <arrow/memory_pool.h>
#include <arrow/util/byte_size.h>
#include <parquet/arrow/writer.h>
#include <parquet/properties.h>

#include <utility>

#include "runner/batch/arrow_result.h"
#include "runner/batch/table_writer.h"

namespace mayfly {
namespace {

constexpr std::string_view kOutputFile = "the output";
constexpr std::int64_t kGroupRows = 1 << 17;
constexpr std::int64_t kGroupBytes = 32 << 20;  // of values, before they are compressed

class ParquetWriter final : public TableWriter {
 public:
  ParquetWriter(std::shared_ptr<arrow::io::FileOutputStream> file,
                std::unique_ptr<parquet::arrow::FileWriter> writer)
      : file_(std::move(file)), writer_(std::move(writer)) {}

  Status write(const arrow::RecordBatch& batch) override {
    if (group_bytes_ > kGroupBytes) {
      TRY(from_arrow(writer_->NewBufferedRowGroup(), kOutputFile));
      group_bytes_ = 0;
    }
    group_bytes_ += TRY(from_arrow(arrow::util::ReferencedBufferSize(batch), kOutputFile));
    return from_arrow(writer_->WriteRecordBatch(batch), kOutputFile);
  }

  Status close() override {
    TRY(from_arrow(writer_->Close(), kOutputFile));
    return from_arrow(file_->Close(), kOutputFile);
  }

 private:
  std::shared_ptr<arrow::io::FileOutputStream> file_;
  std::unique_ptr<parquet::arrow::FileWriter> writer_;
  std::int64_t group_bytes_ = 0;
};

}  // namespace

Result<std::unique_ptr<TableWriter>> create_parquet(const Path& path,
                                                    const std::shared_ptr<arrow::Schema>& schema) {
  auto file = TRY(from_arrow(arrow::io::FileOutputStream::Open(path.native()), kOutputFile));
  const auto properties = parquet::WriterProperties::Builder()
                              .memory_pool(arrow::system_memory_pool())
                              ->compression(parquet::Compression::ZSTD)
                              ->max_row_group_length(kGroupRows)
                              ->build();
  const auto arrow_properties =
      parquet::ArrowWriterProperties::Builder().set_use_threads(false)->store_schema()->build();
  auto writer =
      TRY(from_arrow(parquet::arrow::FileWriter::Open(*schema, arrow::system_memory_pool(), file,
                                                      properties, arrow_properties),
                     kOutputFile));
  return std::make_unique<ParquetWriter>(std::move(file), std::move(writer));
}

}  // namespace mayfly
