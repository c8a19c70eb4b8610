// The next bytes of a file, kept in memory as long as they are needed; and positions in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

struct TextPosition {
  std::uint64_t offset = 0;
  std::uint64_t row = 0;
};
std::string to_json(const TextPosition& position);
// "" is the beginning.
Result<TextPosition> parse_text_position(std::string_view json, std::uint64_t file_bytes);

class ByteWindow {
 public:
  static Result<ByteWindow> open(Fd file);

  // At least so many of the next bytes, or all there are. Valid until the next call.
  Result<std::string_view> peek(std::size_t bytes);
  void skip(std::size_t bytes);  // of those that were peeked
  void seek(std::uint64_t offset);
  bool holds_all() const { return offset_ + buffer_.size() - begin_ >= file_bytes_; }
  std::uint64_t offset() const { return offset_; }
  std::uint64_t file_bytes() const { return file_bytes_; }

 private:
  ByteWindow(Fd file, std::uint64_t bytes) : file_(std::move(file)), file_bytes_(bytes) {}

  Fd file_;
  std::uint64_t file_bytes_;
  std::uint64_t offset_ = 0;  // of buffer_[begin_]
  std::string buffer_;
  std::size_t begin_ = 0;
};

}  // namespace mayfly
