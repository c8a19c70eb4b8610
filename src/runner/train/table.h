// The rows of one split of a snapshot (docs/design/0013-datasets.md), of all its parts, as one
// table: mapped, read where they are wanted. Files come from jails that decoded foreign bytes:
// nothing that they say is believed before it was compared.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "runner/dataset/npy.h"
#include "runner/report/trainer.h"

namespace mayfly {

struct TrainColumn {
  std::string name;
  ColumnKind kind = ColumnKind::Number;
  std::vector<std::string> categories = {};  // of categories: what the codes mean
  std::vector<std::uint64_t> shape = {};     // of images: height, width, channels
};

// Of a schema.json. InvalidArgument: none, or two columns of one name.
Result<std::vector<TrainColumn>> parse_columns(std::string_view schema_json);

// A file's bytes, mapped read-only; it must not shrink meanwhile.
class MappedText {
 public:
  static Result<MappedText> open(const Path& path);
  MappedText(MappedText&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedText& operator=(MappedText&& other) noexcept;
  ~MappedText();
  std::string_view bytes() const { return bytes_; }

 private:
  explicit MappedText(std::string_view bytes) : bytes_(bytes) {}
  std::string_view bytes_;
};

inline constexpr std::uint64_t kMostRows = std::uint64_t{1} << 31;

// Of which columns the values are there.
struct ColumnChoice {
  std::span<const std::string> only = {};  // empty: all
  std::optional<std::string_view> without = {};
  bool has(std::string_view name) const {
    return (only.empty() || std::ranges::find(only, name) != only.end()) &&
           (!without || name != *without);
  }
};

class TrainTable {
 public:
  // `folder` holds schema.json and parts/<number>/<split>/. A part without that split has no rows
  // of it. InvalidArgument names the file that is not what it should be.
  static Result<TrainTable> open(const Path& folder, std::string_view split,
                                 const ColumnChoice& choice = {});

  std::uint32_t rows() const { return rows_; }
  const std::vector<TrainColumn>& columns() const { return columns_; }
  std::optional<std::size_t> find(std::string_view name) const;

  // The keyed hashes of rows, from which their split comes.
  void keys(std::span<const std::uint32_t> rows, std::span<std::uint64_t> out) const;

  // Values of rows that there are, as many as `out` has; ascending rows are read fastest.
  // InvalidArgument: a code that has no category, a text that lies outside its file.
  // Of numbers and integers, as near as a float comes; NaN: missing.
  Status floats(std::size_t column, std::span<const std::uint32_t> rows,
                std::span<float> out) const;
  Status doubles(std::size_t column, std::span<const std::uint32_t> rows,
                 std::span<double> out) const;
  // Of integers and dates; the smallest of all: missing.
  Status integers(std::size_t column, std::span<const std::uint32_t> rows,
                  std::span<std::int64_t> out) const;
  // Of categories; -1: missing.
  Status codes(std::size_t column, std::span<const std::uint32_t> rows,
               std::span<std::int32_t> out) const;
  // Of categories and texts; empty: missing.
  Status texts(std::size_t column, std::span<const std::uint32_t> rows,
               std::span<std::string_view> out) const;
  // Of images: height × width × channels each, one after the other.
  Status pixels(std::size_t column, std::span<const std::uint32_t> rows,
                std::span<std::uint8_t> out) const;
  std::size_t pixels_of(std::size_t column) const;

 private:
  struct Part {
    std::uint32_t first = 0;
    std::uint32_t rows = 0;
    std::optional<NpyColumn> keys;
    std::vector<std::optional<NpyColumn>> values;  // by column; of texts the offsets
    std::vector<std::optional<MappedText>> texts;
  };

  explicit TrainTable(std::vector<TrainColumn> columns) : columns_(std::move(columns)) {}
  Result<Part> open_part(const Path& folder, const ColumnChoice& choice) const;
  Result<NpyColumn> open_values(const Path& folder, std::size_t column, std::uint32_t rows) const;
  const Part& part_of(std::uint32_t row) const;
  template <typename Read>
  Status each(std::span<const std::uint32_t> rows, Read read) const;
  Result<std::string_view> text_at(const Part& part, std::size_t column, std::uint32_t row) const;

  std::vector<TrainColumn> columns_;
  std::vector<Part> parts_;  // of one row or more, in the order of their numbers
  std::uint32_t rows_ = 0;
};

// 0, 1, 2 …
std::vector<std::uint32_t> row_numbers(std::uint32_t first, std::uint32_t count);

}  // namespace mayfly
