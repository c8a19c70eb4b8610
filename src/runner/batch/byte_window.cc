#include "runner/batch/byte_window.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {

std::string to_json(const TextPosition& position) {
  return Json{{"offset", position.offset}, {"row", position.row}}.dump();
}

Result<TextPosition> parse_text_position(std::string_view text, std::uint64_t file_bytes) {
  TextPosition position;
  if (text.empty()) return position;
  const Json json = TRY(parse_json(text, "position"));
  JsonReader reader(json, "position", reason::kBadRequest);
  reader.integer("offset", position.offset, 0, file_bytes)
      .integer("row", position.row, 0, INT64_MAX);
  TRY(reader.finish());
  return position;
}

Result<ByteWindow> ByteWindow::open(Fd file) {
  struct stat facts{};
  if (::fstat(file.get(), &facts) != 0) return fail_errno("fstat");
  if (!S_ISREG(facts.st_mode)) return refuse(reason::kInvalidInput, "the input is no file");
  return ByteWindow(std::move(file), static_cast<std::uint64_t>(facts.st_size));
}

Result<std::string_view> ByteWindow::peek(std::size_t bytes) {
  if (begin_ > 0 && buffer_.size() - begin_ < bytes) {
    buffer_.erase(0, begin_);
    begin_ = 0;
  }
  while (buffer_.size() - begin_ < bytes && !holds_all()) {
    const std::size_t had = buffer_.size();
    const std::uint64_t from = offset_ + had - begin_;
    const std::size_t want = static_cast<std::size_t>(
        std::min<std::uint64_t>(bytes - (had - begin_), file_bytes_ - from));
    buffer_.resize(had + want);
    const ssize_t got = ::pread(file_.get(), buffer_.data() + had, want, static_cast<off_t>(from));
    buffer_.resize(had + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read the input");
    if (got == 0) return refuse(reason::kInvalidInput, "the input became shorter");
  }
  return std::string_view(buffer_).substr(begin_);
}

void ByteWindow::skip(std::size_t bytes) {
  begin_ += bytes;
  offset_ += bytes;
}

void ByteWindow::seek(std::uint64_t offset) {
  buffer_.clear();
  begin_ = 0;
  offset_ = offset;
}

}  // namespace mayfly
