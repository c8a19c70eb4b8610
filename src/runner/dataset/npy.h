// Columns in NumPy's file format, versions 1.0 and 2.0, C order, little-endian: one contiguous
// array a file (numpy.lib.format; docs/design/0013-datasets.md says which column is which type).
//
// Files are made in jails that decode foreign bytes: a reader believes nothing that the header says
// before it has compared it with the file's length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"

namespace mayfly {

enum class NpyType : std::uint8_t { Float32, Float64, Int32, Int64, UInt8, UInt64 };
std::size_t size_of(NpyType type);
std::string_view to_string(NpyType type);  // "<f4": as NumPy calls it

template <typename T>
consteval NpyType npy_type();
template <>
consteval NpyType npy_type<float>() {
  return NpyType::Float32;
}
template <>
consteval NpyType npy_type<double>() {
  return NpyType::Float64;
}
template <>
consteval NpyType npy_type<std::int32_t>() {
  return NpyType::Int32;
}
template <>
consteval NpyType npy_type<std::int64_t>() {
  return NpyType::Int64;
}
template <>
consteval NpyType npy_type<std::uint8_t>() {
  return NpyType::UInt8;
}
template <>
consteval NpyType npy_type<std::uint64_t>() {
  return NpyType::UInt64;
}

struct NpyHeader {
  NpyType type = NpyType::Float64;
  std::vector<std::uint64_t> shape;  // rows first; at least one dimension
  std::uint64_t offset = 0;          // of the data in the file
  std::uint64_t elements = 0;        // product of the shape
  bool operator==(const NpyHeader&) const = default;
};

// Of a file's first bytes, at most kMaxNpyHeader of them. InvalidArgument: none of ours, among them
// object arrays, which are pickles, and other byte orders.
inline constexpr std::size_t kMaxNpyHeader = 64 * 1024;
Result<NpyHeader> parse_npy(std::string_view bytes);

// A column, mapped read-only for as long as it lives. A file must not shrink meanwhile.
class NpyColumn {
 public:
  // InvalidArgument names the path: what `parse_npy` refuses, and a length that is not the
  // header's.
  static Result<NpyColumn> open(const Path& path);
  NpyColumn(NpyColumn&& other) noexcept;
  NpyColumn& operator=(NpyColumn&& other) noexcept;
  ~NpyColumn();

  NpyType type() const { return header_.type; }
  std::uint64_t rows() const { return header_.shape[0]; }
  const std::vector<std::uint64_t>& shape() const { return header_.shape; }
  // Of the type that it is of.
  template <typename T>
  std::span<const T> as() const {
    require(npy_type<T>());
    return {reinterpret_cast<const T*>(data()), header_.elements};
  }

 private:
  NpyColumn(NpyHeader header, const std::byte* map, std::size_t length)
      : header_(std::move(header)), map_(map), length_(length) {}
  void require(NpyType type) const;
  const std::byte* data() const { return map_ + header_.offset; }

  NpyHeader header_;
  const std::byte* map_ = nullptr;
  std::size_t length_ = 0;
};

// Writes one, rows as they come; their number is known at the end. It holds no descriptor between
// calls: a part has thousands of columns, a jail few descriptors.
class NpyWriter {
 public:
  // `row`: the shape of one row, {} for a number. The file must not be there.
  static Result<NpyWriter> create(const Path& path, NpyType type, std::vector<std::uint64_t> row);

  // Whole rows, of the type that it is of.
  template <typename T>
  Status append(std::span<const T> values) {
    return append(npy_type<T>(), std::as_bytes(values));
  }
  // What waits to be written, a quarter of a MiB at most, is written.
  Status flush();
  // Once; the file is not whole before. Not synced.
  Status close();
  std::uint64_t rows() const;

 private:
  NpyWriter(Path path, NpyType type, std::vector<std::uint64_t> row)
      : path_(std::move(path)), type_(type), row_(std::move(row)) {}
  Status append(NpyType type, std::span<const std::byte> bytes);
  std::size_t row_bytes() const;

  Path path_;
  NpyType type_;
  std::vector<std::uint64_t> row_;
  std::vector<std::byte> pending_;
  std::uint64_t bytes_ = 0;
};

}  // namespace mayfly
