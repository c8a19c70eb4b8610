// npz: a zip of arrays in NumPy's format, which are read side by side, a block of rows at a time.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <utility>

#include "base/utf8.h"
#include "core/reason.h"
#include "runner/dataset/npy.h"
#include "runner/ingest/mapped_file.h"
#include "runner/ingest/row_source.h"
#include "runner/ingest/zip_archive.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMaxRowBytes = std::uint64_t{8} << 20U;
constexpr std::uint64_t kBlockBytes = std::uint64_t{32} << 20U;

std::unexpected<Error> bad_array(std::string_view name, std::string_view what) {
  return refuse(reason::kInvalidInput,
                fmt::format("the array '{}': {}", to_utf8(name.substr(0, 100)), what));
}

// One array, read from the front.
struct NpzArray {
  std::string name;
  NpyHeader header;
  ZipStream stream;
  std::string ahead = {};  // rows that came with the header
  std::string rows = {};   // of the block
  std::uint64_t row_bytes = 0;
  std::uint64_t columns = 0;  // of rows of one dimension; 0: an image
};

template <typename T>
T element(std::string_view bytes, std::size_t at) {
  T value{};
  std::memcpy(&value, bytes.data() + at * sizeof value, sizeof value);
  return value;
}

Cell float_cell(double value) {
  if (std::isnan(value)) return {};
  return {.kind = CellKind::Number, .number = value};
}

Cell whole_cell(std::int64_t value) { return {.kind = CellKind::Integer, .integer = value}; }

Cell element_cell(NpyType type, std::string_view bytes, std::size_t at) {
  switch (type) {
    case NpyType::Float32:
      return float_cell(static_cast<double>(element<float>(bytes, at)));
    case NpyType::Float64:
      return float_cell(element<double>(bytes, at));
    case NpyType::Int32:
      return whole_cell(element<std::int32_t>(bytes, at));
    case NpyType::Int64:
      return whole_cell(element<std::int64_t>(bytes, at));
    case NpyType::UInt8:
      return whole_cell(element<std::uint8_t>(bytes, at));
    case NpyType::UInt64: {
      const auto value = element<std::uint64_t>(bytes, at);
      return value <= INT64_MAX ? whole_cell(static_cast<std::int64_t>(value))
                                : float_cell(static_cast<double>(value));
    }
  }
  return {};
}

class NpzSource final : public RowSource {
 public:
  explicit NpzSource(MappedFile file) : file_(std::move(file)) {}

  Status open() {
    const std::vector<ZipEntry> entries = TRY(read_zip(file_.bytes()));
    for (const ZipEntry& entry : entries) {
      if (entry.is_folder()) continue;
      if (!entry.name.ends_with(".npy"))
        return refuse(reason::kInvalidInput, "the npz file holds something else than arrays");
      arrays_.push_back(TRY(open_array(entry)));
      TRY(add_columns(arrays_.back()));
    }
    if (arrays_.empty()) return refuse(reason::kInvalidInput, "the npz file has no array");
    for (const NpzArray& array : arrays_) {
      if (array.header.shape[0] == arrays_[0].header.shape[0]) continue;
      return bad_array(array.name, fmt::format("it has {} rows, '{}' has {}", array.header.shape[0],
                                               arrays_[0].name, arrays_[0].header.shape[0]));
    }
    left_ = arrays_[0].header.shape[0];
    return settle_names(columns_);
  }

  Result<bool> next(SourceBlock& block) override {
    block.clear(columns_.size());
    if (left_ == 0) {
      for (NpzArray& array : arrays_) TRY(array.stream.finish());
      return false;
    }
    const std::uint64_t rows = std::min(
        {left_, std::uint64_t{rows_of_block(columns_.size())},
         std::max<std::uint64_t>(kBlockBytes / std::max<std::uint64_t>(row_bytes_, 1), 1)});
    left_ -= rows;
    for (std::uint64_t i = 0; i < rows; ++i) block.rows.push_back({.row = ++row_});
    std::size_t column = 0;
    for (NpzArray& array : arrays_) {
      TRY(read_rows(array, rows * array.row_bytes));
      column = put_rows(array, rows, column, block);
    }
    return true;
  }

  const std::vector<SourceColumn>& columns() const override { return columns_; }
  std::uint64_t done_bytes() const override {
    const double all = static_cast<double>(std::max<std::uint64_t>(row_ + left_, 1));
    return static_cast<std::uint64_t>(static_cast<double>(row_) / all *
                                      static_cast<double>(total_bytes()));
  }
  std::uint64_t total_bytes() const override { return file_.bytes().size(); }

 private:
  Result<NpzArray> open_array(const ZipEntry& entry) const {
    NpzArray array{.name = entry.name.substr(0, entry.name.size() - 4),
                   .header = {},
                   .stream = TRY(ZipStream::open(file_.bytes(), entry))};
    std::string begin;
    TRY(array.stream.read(std::min<std::uint64_t>(entry.size, kMaxNpyHeader), begin));
    auto header = parse_npy(begin);
    if (!header) return bad_array(array.name, header.error().message);
    array.header = *std::move(header);
    const std::uint64_t data = array.header.elements * size_of(array.header.type);
    if (entry.size - array.header.offset != data)
      return bad_array(array.name, "its length is not what its header says");
    array.ahead = begin.substr(array.header.offset);
    const std::uint64_t rows = array.header.shape[0];
    array.row_bytes = rows == 0 ? 0 : data / rows;
    if (array.row_bytes > kMaxRowBytes) return bad_array(array.name, "its rows are too long");
    return array;
  }

  Status add_columns(NpzArray& array) {
    row_bytes_ += array.row_bytes;
    const std::vector<std::uint64_t>& shape = array.header.shape;
    if (shape.size() == 1) {
      array.columns = 1;
      columns_.push_back({.name = array.name});
      return {};
    }
    if (shape.size() == 2) {
      if (shape[1] == 0 || shape[1] > kMaxColumns)
        return bad_array(array.name, fmt::format("it has {} columns, and 1 to {} may be", shape[1],
                                                 kMaxColumns));
      array.columns = shape[1];
      for (std::uint64_t i = 0; i < shape[1]; ++i)
        columns_.push_back({.name = fmt::format("{}_{}", array.name, i)});
      return columns_.size() <= kMaxColumns ? Status{} : settle_names(columns_);
    }
    const std::uint64_t channels = shape.size() == 4 ? shape[3] : 1;
    const bool image = array.header.type == NpyType::UInt8 && shape.size() <= 4 && shape[1] >= 1 &&
                       shape[1] <= kMaxImageSide && shape[2] >= 1 && shape[2] <= kMaxImageSide &&
                       (channels == 1 || channels == 3);
    if (!image) {
      return bad_array(array.name,
                       "arrays of more than two dimensions are images: bytes, [rows, height, "
                       "width] or [rows, height, width, 1 or 3]");
    }
    columns_.push_back(
        {.name = array.name,
         .type = ColumnType::Image,
         .shape = {static_cast<std::uint32_t>(shape[1]), static_cast<std::uint32_t>(shape[2]),
                   static_cast<std::uint32_t>(channels)}});
    return {};
  }

  static Status read_rows(NpzArray& array, std::uint64_t bytes) {
    const std::size_t here = std::min<std::size_t>(array.ahead.size(), bytes);
    array.rows = array.ahead.substr(0, here);
    array.ahead.erase(0, here);
    return array.stream.read(bytes - here, array.rows);
  }

  // The first column behind its own.
  static std::size_t put_rows(const NpzArray& array, std::uint64_t rows, std::size_t column,
                              SourceBlock& block) {
    if (array.columns == 0) {
      for (std::uint64_t row = 0; row < rows; ++row) {
        block.columns[column].push_back(
            {.kind = CellKind::Text,
             .text = std::string_view(array.rows).substr(row * array.row_bytes, array.row_bytes)});
      }
      return column + 1;
    }
    for (std::uint64_t i = 0; i < array.columns; ++i) {
      for (std::uint64_t row = 0; row < rows; ++row) {
        block.columns[column + i].push_back(
            element_cell(array.header.type, array.rows, row * array.columns + i));
      }
    }
    return column + array.columns;
  }

  MappedFile file_;
  std::deque<NpzArray> arrays_;
  std::vector<SourceColumn> columns_;
  std::uint64_t row_bytes_ = 0;  // of all arrays
  std::uint64_t left_ = 0;
  std::uint64_t row_ = 0;
};

}  // namespace

Result<std::unique_ptr<RowSource>> open_npz_source(const Path& file) {
  auto source = std::make_unique<NpzSource>(TRY(MappedFile::open(file)));
  TRY(source->open());
  return source;
}

}  // namespace mayfly
