#include "runner/dataset/npy.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "base/check.h"

namespace mayfly {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr std::size_t kWrittenHeader = 256;  // room for any number of rows; a multiple of 64
constexpr std::size_t kMaxDimensions = 8;
constexpr std::size_t kBuffer = 256 * 1024;

constexpr std::array<std::pair<NpyType, std::string_view>, 6> kTypes{{
    {NpyType::Float32, "<f4"},
    {NpyType::Float64, "<f8"},
    {NpyType::Int32, "<i4"},
    {NpyType::Int64, "<i8"},
    {NpyType::UInt8, "|u1"},
    {NpyType::UInt64, "<u8"},
}};

std::unexpected<Error> wrong(std::string_view what) {
  return fail(Code::InvalidArgument, fmt::format("no column in NumPy's format: {}", what));
}

// A header is the text of a Python dictionary of three entries; this reads such, and no more.
class HeaderText {
 public:
  explicit HeaderText(std::string_view text) : rest_(text) {}

  bool take(char expected) {
    skip_spaces();
    if (rest_.empty() || rest_.front() != expected) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool take_word(std::string_view word) {
    skip_spaces();
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  std::optional<std::string_view> string() {
    skip_spaces();
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) return std::nullopt;
    const std::size_t end = rest_.find(rest_.front(), 1);
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view text = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return text;
  }
  std::optional<std::uint64_t> number() {
    skip_spaces();
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc()) return std::nullopt;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return value;
  }
  bool at_end() {
    skip_spaces();
    return rest_.empty();
  }

 private:
  void skip_spaces() {
    const std::size_t begin = rest_.find_first_not_of(" \n");
    rest_.remove_prefix(begin == std::string_view::npos ? rest_.size() : begin);
  }

  std::string_view rest_;
};

Result<NpyType> parse_type(std::string_view name) {
  for (const auto& [type, known] : kTypes)
    if (known == name) return type;
  if (name.contains('O')) return wrong("it holds Python objects, which are pickles");
  return wrong(fmt::format("its type is \"{}\"", name.substr(0, 32)));
}

Result<std::vector<std::uint64_t>> parse_shape(HeaderText& text) {
  std::vector<std::uint64_t> shape;
  if (!text.take('(')) return wrong("its shape is no tuple");
  bool more = true;
  while (more && !text.take(')')) {
    const auto size = text.number();
    if (!size || shape.size() == kMaxDimensions) return wrong("its shape is none of ours");
    shape.push_back(*size);
    more = text.take(',');
    if (!more && !text.take(')')) return wrong("its shape is no tuple");
  }
  if (shape.empty()) return wrong("it is a single value");
  return shape;
}

Result<std::uint64_t> product(std::span<const std::uint64_t> shape, std::uint64_t size) {
  std::uint64_t elements = 1;
  std::uint64_t bytes = 0;
  for (const std::uint64_t dimension : shape)
    if (__builtin_mul_overflow(elements, dimension, &elements)) return wrong("it is too large");
  if (__builtin_mul_overflow(elements, size, &bytes)) return wrong("it is too large");
  return elements;
}

// What a header's dictionary has told so far: three entries, in any order.
struct HeaderParts {
  std::optional<NpyType> type = {};
  bool order = false;
  std::vector<std::uint64_t> shape = {};
  bool whole() const { return type && order && !shape.empty(); }
};

Status parse_entry(HeaderText& text, HeaderParts& parts) {
  const auto key = text.string();
  if (!key || !text.take(':')) return wrong("its header is no dictionary");
  if (*key == "descr" && !parts.type) {
    const auto name = text.string();
    if (!name) return wrong("its type is none of ours");
    parts.type = TRY(parse_type(*name));
  } else if (*key == "fortran_order" && !parts.order) {
    if (!text.take_word("False")) return wrong("its order is not C's");
    parts.order = true;
  } else if (*key == "shape" && parts.shape.empty()) {
    parts.shape = TRY(parse_shape(text));
  } else {
    return wrong("its header has an entry that does not belong there");
  }
  return {};
}

Result<NpyHeader> parse_dictionary(std::string_view bytes) {
  HeaderText text(bytes);
  HeaderParts parts;
  if (!text.take('{')) return wrong("its header is no dictionary");
  while (!text.take('}')) {
    TRY(parse_entry(text, parts));
    if (!text.take(',') && !text.take('}')) return wrong("its header is no dictionary");
    if (text.at_end()) break;
  }
  if (!text.at_end() || !parts.whole()) return wrong("its header is not whole");
  NpyHeader header;
  header.type = *parts.type;
  header.elements = TRY(product(parts.shape, size_of(header.type)));
  header.shape = std::move(parts.shape);
  return header;
}

std::string header_text(NpyType type, std::uint64_t rows, std::span<const std::uint64_t> row) {
  std::string shape = fmt::format("{},", rows);
  for (const std::uint64_t size : row) shape += fmt::format(" {},", size);
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                 to_string(type), shape);
  text.resize(kWrittenHeader - kMagic.size() - 4, ' ');
  text.back() = '\n';
  const auto length = static_cast<std::uint16_t>(text.size());
  std::string header(kMagic);
  header += {'\x01', '\x00', static_cast<char>(length & 0xff), static_cast<char>(length >> 8)};
  return header + text;
}

}  // namespace

std::size_t size_of(NpyType type) {
  switch (type) {
    case NpyType::UInt8:
      return 1;
    case NpyType::Float32:
    case NpyType::Int32:
      return 4;
    case NpyType::Float64:
    case NpyType::Int64:
    case NpyType::UInt64:
      return 8;
  }
  CHECK(false);
}

std::string_view to_string(NpyType type) {
  return std::ranges::find(kTypes, type, &std::pair<NpyType, std::string_view>::first)->second;
}

Result<NpyHeader> parse_npy(std::string_view bytes) {
  if (!bytes.starts_with(kMagic) || bytes.size() < kMagic.size() + 4) return wrong("no such file");
  const auto at = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
  const unsigned version = at(6);
  if ((version != 1 && version != 2) || at(7) != 0) return wrong("its version is unknown");
  const std::size_t begin = version == 1 ? 10 : 12;
  if (bytes.size() < begin) return wrong("it is cut");
  std::size_t length = at(8) | (std::size_t{at(9)} << 8);
  if (version == 2) length |= (std::size_t{at(10)} << 16) | (std::size_t{at(11)} << 24);
  if (length > bytes.size() - begin) return wrong("its header is cut, or too long");
  NpyHeader header = TRY(parse_dictionary(bytes.substr(begin, length)));
  header.offset = begin + length;
  if (header.offset % size_of(header.type) != 0) return wrong("its data is not aligned");
  return header;
}

// --- reading ---

Result<NpyColumn> NpyColumn::open(const Path& path) {
  const auto named = [&](const Error& error) {
    return fail(error.code, fmt::format("{}: {}", path.string(), error.message));
  };
  const Fd file = TRY(open_file(path, O_RDONLY));
  const std::uint64_t length = TRY(mayfly::file_size(path));
  std::string begin(std::min<std::uint64_t>(length, kMaxNpyHeader), '\0');
  const ssize_t got = ::pread(file.get(), begin.data(), begin.size(), 0);
  if (got < 0) return fail_errno(path.string());
  begin.resize(static_cast<std::size_t>(got));
  auto header = parse_npy(begin);
  if (!header) return named(header.error());
  if (length - header->offset != header->elements * size_of(header->type))
    return named(wrong("its length is not what its header says").error());
  void* map = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, file.get(), 0);
  if (map == MAP_FAILED) return fail_errno(path.string());
  return NpyColumn(*std::move(header), static_cast<const std::byte*>(map), length);
}

NpyColumn::NpyColumn(NpyColumn&& other) noexcept
    : header_(std::move(other.header_)),
      map_(std::exchange(other.map_, nullptr)),
      length_(std::exchange(other.length_, 0)) {}

NpyColumn& NpyColumn::operator=(NpyColumn&& other) noexcept {
  std::swap(header_, other.header_);
  std::swap(map_, other.map_);
  std::swap(length_, other.length_);
  return *this;
}

NpyColumn::~NpyColumn() {
  if (map_ != nullptr) ::munmap(const_cast<std::byte*>(map_), length_);
}

void NpyColumn::require(NpyType type) const { CHECK(type == header_.type); }

// --- writing ---

Result<NpyWriter> NpyWriter::create(const Path& path, NpyType type,
                                    std::vector<std::uint64_t> row) {
  CHECK(row.size() < kMaxDimensions);
  CHECK(product(row, size_of(type)).has_value());
  NpyWriter writer(path, type, std::move(row));
  const Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_EXCL));
  TRY(write_all(file.get(), header_text(type, 0, writer.row_)));
  return writer;
}

Status NpyWriter::append(NpyType type, std::span<const std::byte> bytes) {
  CHECK(type == type_ && row_bytes() > 0 && bytes.size() % row_bytes() == 0);
  bytes_ += bytes.size();
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  return pending_.size() < kBuffer ? Status{} : flush();
}

Status NpyWriter::flush() {
  if (pending_.empty()) return {};
  const Fd file = TRY(open_file(path_, O_WRONLY | O_APPEND));
  TRY(write_all(file.get(), pending_));
  pending_ = {};
  return {};
}

Status NpyWriter::close() {
  TRY(flush());
  const Fd file = TRY(open_file(path_, O_WRONLY));
  const std::string header = header_text(type_, rows(), row_);
  if (::pwrite(file.get(), header.data(), header.size(), 0) != static_cast<ssize_t>(header.size()))
    return fail_errno("a column's header");
  return {};
}

std::uint64_t NpyWriter::rows() const { return row_bytes() == 0 ? 0 : bytes_ / row_bytes(); }

std::size_t NpyWriter::row_bytes() const {
  std::size_t bytes = size_of(type_);
  for (const std::uint64_t size : row_) bytes *= size;
  return bytes;
}

}  // namespace mayfly
