// Parts become one file: text is copied behind the first part's header, Parquet is read and written
// row group by row group.
#include <arrow/io/file.h>
#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <parquet/arrow/reader.h>
#include <parquet/properties.h>

#include <string>
#include <utility>

#include "core/reason.h"
#include "runner/batch/arrow_result.h"
#include "runner/batch/byte_window.h"
#include "runner/batch/table_writer.h"
#include "runner/batch/worker.h"

namespace mayfly {
namespace {

constexpr std::size_t kCopied = 1 << 20;
constexpr std::int64_t kMergedRows = 16 * 1024;

// The length of the first line; a line end between quotes is none.
std::size_t header_length(std::string_view text) {
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (text[i] == '\n' && !quoted) return i + 1;
  }
  return text.size();
}

class TextMerge {
 public:
  explicit TextMerge(Fd output) : output_(std::move(output)) {}

  // The rest of a file behind its header, which all have alike.
  Status append_csv(const Path& path) {
    Fd file = TRY(open_file(path, O_RDONLY));
    ByteWindow window = TRY(ByteWindow::open(std::move(file)));
    const std::string_view text = TRY(window.peek(kMaxBlock));
    const std::string_view header = text.substr(0, header_length(text));
    if (header_.empty()) {
      header_ = header;
    } else if (header_ == header) {
      window.skip(header.size());
    } else {
      return refuse(reason::kInternal, fmt::format("{} has other columns than the parts before it",
                                                   path.filename().native()));
    }
    return copy(window);
  }

  Status append(const Path& path) {
    Fd file = TRY(open_file(path, O_RDONLY));
    ByteWindow window = TRY(ByteWindow::open(std::move(file)));
    return copy(window);
  }

 private:
  Status copy(ByteWindow& window) {
    while (true) {
      const std::string_view text = TRY(window.peek(kCopied));
      if (text.empty()) return {};
      TRY(write_all(output_.get(), text));
      window.skip(text.size());
    }
  }

  Fd output_;
  std::string header_;
};

Result<std::unique_ptr<parquet::arrow::FileReader>> open_part(const Path& path) {
  auto file = TRY(from_arrow(
      arrow::io::ReadableFile::Open(path.native(), arrow::system_memory_pool()), "a part"));
  parquet::ArrowReaderProperties properties(false);
  properties.set_pre_buffer(false);
  properties.set_batch_size(kMergedRows);
  parquet::arrow::FileReaderBuilder builder;
  parquet::ReaderProperties reading(arrow::system_memory_pool());
  reading.enable_buffered_stream();
  TRY(from_arrow(builder.Open(std::move(file), reading), "a part"));
  builder.memory_pool(arrow::system_memory_pool())->properties(properties);
  return from_arrow(builder.Build(), "a part");
}

Status merge_parquet(const MergeJob& job, const TableFolders& folders) {
  std::unique_ptr<TableWriter> writer;
  std::shared_ptr<arrow::Schema> schema;
  for (std::uint32_t number = 1; number <= job.parts; ++number) {
    const std::string name = part_name(number);
    const auto part = TRY(open_part(folders.source / name));
    auto batches = TRY(from_arrow(part->GetRecordBatchReader(), "a part"));
    if (writer == nullptr) {
      schema = batches->schema()->RemoveMetadata();
      writer = TRY(create_parquet(folders.work / "output", schema));
    } else if (!batches->schema()->Equals(*schema, false)) {
      return refuse(reason::kInternal,
                    fmt::format("{} has other columns than the parts before it", name));
    }
    while (true) {
      const auto batch = TRY(from_arrow(batches->Next(), "a part"));
      if (batch == nullptr) break;
      TRY(writer->write(*batch));
    }
  }
  return writer->close();
}

Status merge_text(const MergeJob& job, const TableFolders& folders) {
  TextMerge merge(TRY(open_file(folders.work / "output", O_WRONLY | O_CREAT | O_TRUNC, 0644)));
  for (std::uint32_t number = 1; number <= job.parts; ++number) {
    const Path path = folders.source / part_name(number);
    TRY(job.output_format == TableFormat::Csv ? merge.append_csv(path) : merge.append(path));
  }
  return {};
}

}  // namespace

Status run_merge(const MergeJob& job, const TableFolders& folders) {
  TRY(job.output_format == TableFormat::Parquet ? merge_parquet(job, folders)
                                                : merge_text(job, folders));
  TextMerge errors(
      TRY(open_file(folders.work / "errors.jsonl", O_WRONLY | O_CREAT | O_TRUNC, 0644)));
  for (std::uint32_t number = 1; number <= job.parts; ++number)
    TRY(errors.append(folders.source / errors_name(number)));
  return write_slice_end(folders.work, {.position = {}, .finished = true});
}

}  // namespace mayfly
