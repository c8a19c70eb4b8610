//   local header (30 bytes, name, extra), content   of each entry
//   central header (46 bytes, name, extra, comment) of each entry
//   [ZIP64 end record and locator]
//   end record (22 bytes, comment)
#include "runner/ingest/zip_archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "base/utf8.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kEndRecord = 22;
constexpr std::size_t kLocator = 20;
constexpr std::size_t kEndRecord64 = 56;
constexpr std::size_t kCentralHeader = 46;
constexpr std::size_t kLocalHeader = 30;
constexpr std::uint32_t kIn64 = 0xFFFF'FFFFU;
constexpr std::uint64_t kSmall = std::uint64_t{1} << 20U;

std::unexpected<Error> bad_zip(std::string_view what) {
  return refuse(reason::kInvalidInput, fmt::format("the zip archive {}", what));
}

template <typename T>
T little(std::string_view bytes, std::size_t at) {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct Directory {
  std::uint64_t entries = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

// Where the last 64 KiB hold the end record; a comment may follow it.
std::optional<std::size_t> find_end(std::string_view bytes) {
  if (bytes.size() < kEndRecord) return std::nullopt;
  const std::size_t last = bytes.size() - kEndRecord;
  const std::size_t first = last > 0xFFFF ? last - 0xFFFF : 0;
  for (std::size_t at = last + 1; at-- > first;) {
    if (bytes.substr(at, 4) == "PK\x05\x06" &&
        little<std::uint16_t>(bytes, at + 20) == bytes.size() - at - kEndRecord) {
      return at;
    }
  }
  return std::nullopt;
}

Result<Directory> read_end(std::string_view bytes) {
  const auto end = find_end(bytes);
  if (!end) return bad_zip("has no end: is it one, and whole?");
  const std::string_view record = bytes.substr(*end);
  if (little<std::uint16_t>(record, 4) != 0 || little<std::uint16_t>(record, 6) != 0)
    return bad_zip("is one of several volumes");
  Directory directory{.entries = little<std::uint16_t>(record, 10),
                      .offset = little<std::uint32_t>(record, 16),
                      .size = little<std::uint32_t>(record, 12)};
  const bool in64 =
      directory.entries == 0xFFFF || directory.offset == kIn64 || directory.size == kIn64;
  if (!in64 || *end < kLocator) return directory;
  const std::string_view locator = bytes.substr(*end - kLocator, kLocator);
  if (!locator.starts_with("PK\x06\x07")) return directory;
  const auto at = little<std::uint64_t>(locator, 8);
  if (at > bytes.size() || bytes.size() - at < kEndRecord64 ||
      bytes.substr(at, 4) != "PK\x06\x06") {
    return bad_zip("has a damaged end");
  }
  const std::string_view record64 = bytes.substr(at);
  return Directory{.entries = little<std::uint64_t>(record64, 32),
                   .offset = little<std::uint64_t>(record64, 48),
                   .size = little<std::uint64_t>(record64, 40)};
}

// No way out of the folder that the archive is.
bool is_plain_path(std::string_view name) {
  if (name.empty() || name.size() > 1024 || name[0] == '/' || name.contains('\\') ||
      name.contains('\0') || name.contains(':')) {
    return false;
  }
  while (!name.empty()) {
    const std::size_t slash = std::min(name.find('/'), name.size());
    const std::string_view part = name.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    name.remove_prefix(std::min(slash + 1, name.size()));
  }
  return true;
}

// The ZIP64 field gives what did not fit into 32 bits, in this order.
Status read_extra64(std::string_view extra, ZipEntry& entry) {
  while (extra.size() >= 4) {
    const auto id = little<std::uint16_t>(extra, 0);
    const auto size = little<std::uint16_t>(extra, 2);
    if (size > extra.size() - 4) return bad_zip("has a damaged header");
    std::string_view field = extra.substr(4, size);
    extra.remove_prefix(4 + std::size_t{size});
    if (id != 1) continue;
    for (std::uint64_t* value : {&entry.size, &entry.packed, &entry.offset}) {
      if (*value != kIn64) continue;
      if (field.size() < 8) return bad_zip("has a damaged header");
      *value = little<std::uint64_t>(field, 0);
      field.remove_prefix(8);
    }
  }
  return {};
}

Status check_entry(const ZipEntry& entry, std::uint64_t file, const ZipLimits& limits) {
  const std::string name = to_utf8(entry.name.substr(0, 100));
  if (!is_plain_path(entry.name))
    return bad_zip(fmt::format("has the entry '{}', which leads out of it", name));
  if (entry.offset > file || entry.packed > file - entry.offset)
    return bad_zip(fmt::format("ends before its entry '{}'", name));
  if (!entry.deflated && entry.packed != entry.size)
    return bad_zip(fmt::format("has sizes of '{}' that cannot be", name));
  if (entry.size > kSmall && entry.size / limits.ratio > entry.packed)
    return bad_zip(fmt::format("expands '{}' more than {} times", name, limits.ratio));
  return {};
}

// Takes a central header off the front.
Result<ZipEntry> take_central(std::string_view& rest) {
  if (rest.size() < kCentralHeader || !rest.starts_with("PK\x01\x02"))
    return bad_zip("has a damaged directory");
  const std::size_t name = little<std::uint16_t>(rest, 28);
  const std::size_t extra = little<std::uint16_t>(rest, 30);
  const std::size_t comment = little<std::uint16_t>(rest, 32);
  if (rest.size() - kCentralHeader < name + extra + comment)
    return bad_zip("has a damaged directory");
  const auto method = little<std::uint16_t>(rest, 10);
  ZipEntry entry{.name = std::string(rest.substr(kCentralHeader, name)),
                 .packed = little<std::uint32_t>(rest, 20),
                 .size = little<std::uint32_t>(rest, 24),
                 .offset = little<std::uint32_t>(rest, 42),
                 .checksum = little<std::uint32_t>(rest, 16),
                 .deflated = method == 8};
  const std::string shown = to_utf8(entry.name.substr(0, 100));
  if ((little<std::uint16_t>(rest, 8) & 1U) != 0)
    return bad_zip(fmt::format("has the entry '{}' encrypted", shown));
  if (method != 0 && method != 8)
    return bad_zip(fmt::format("has '{}' compressed in a way that is not read here", shown));
  TRY(read_extra64(rest.substr(kCentralHeader + name, extra), entry));
  rest.remove_prefix(kCentralHeader + name + extra + comment);
  return entry;
}

}  // namespace

Result<std::vector<ZipEntry>> read_zip(std::string_view bytes, const ZipLimits& limits) {
  const Directory directory = TRY(read_end(bytes));
  if (directory.offset > bytes.size() || directory.size > bytes.size() - directory.offset)
    return bad_zip("has a damaged end");
  if (directory.entries > limits.entries || directory.entries > directory.size / kCentralHeader) {
    return bad_zip(
        fmt::format("says that it has {} entries; {} are the most, and they must be "
                    "there",
                    directory.entries, limits.entries));
  }
  std::string_view rest = bytes.substr(directory.offset, directory.size);
  std::vector<ZipEntry> entries;
  entries.reserve(directory.entries);
  std::uint64_t expanded = 0;
  std::uint64_t packed = 0;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    ZipEntry entry = TRY(take_central(rest));
    TRY(check_entry(entry, bytes.size(), limits));
    expanded += entry.size;
    packed += entry.packed;
    if (entry.size > limits.expanded || expanded > limits.expanded)
      return bad_zip(fmt::format("expands to more than {} bytes", limits.expanded));
    // Entries that share their bytes (Fifield: "A better zip bomb", WOOT 2019) add up to more.
    if (packed > bytes.size()) return bad_zip("has entries that overlap");
    entries.push_back(std::move(entry));
  }
  return entries;
}

void ZipStream::End::operator()(z_stream* stream) const {
  ::inflateEnd(stream);
  delete stream;
}

Result<ZipStream> ZipStream::open(std::string_view bytes, const ZipEntry& entry) {
  if (entry.offset > bytes.size() || bytes.size() - entry.offset < kLocalHeader)
    return bad_zip("ends before an entry");
  const std::string_view local = bytes.substr(entry.offset);
  if (!local.starts_with("PK\x03\x04")) return bad_zip("has no entry where its directory says so");
  const std::size_t head = kLocalHeader + std::size_t{little<std::uint16_t>(local, 26)} +
                           little<std::uint16_t>(local, 28);
  if (local.size() < head || local.size() - head < entry.packed)
    return bad_zip("ends before an entry");
  ZipStream stream;
  stream.packed_ = local.substr(head, entry.packed);
  stream.size_ = entry.size;
  stream.wanted_ = entry.checksum;
  stream.checksum_ = ::crc32(0, nullptr, 0);
  if (!entry.deflated) return stream;
  auto zlib = std::make_unique<z_stream>();
  *zlib = {};
  if (::inflateInit2(zlib.get(), -MAX_WBITS) != Z_OK)
    return refuse(reason::kOutOfMemory, "zlib has no memory");
  stream.stream_.reset(zlib.release());
  return stream;
}

Status ZipStream::read(std::size_t count, std::string& out) {
  if (count > left()) return bad_zip("has an entry that is shorter than what it holds");
  const std::size_t begin = out.size();
  if (!stream_) {
    out += packed_.substr(0, count);
    packed_.remove_prefix(count);
  } else {
    out.resize(begin + count);
    std::size_t made = 0;
    while (made < count) {
      constexpr std::size_t kMost = std::numeric_limits<uInt>::max();
      const auto given = static_cast<uInt>(std::min(packed_.size(), kMost));
      const auto room = static_cast<uInt>(std::min(count - made, kMost));
      stream_->next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed_.data()));
      stream_->avail_in = given;
      stream_->next_out = reinterpret_cast<Bytef*>(out.data() + begin + made);
      stream_->avail_out = room;
      const int result = ::inflate(stream_.get(), Z_NO_FLUSH);
      packed_.remove_prefix(given - stream_->avail_in);
      made += room - stream_->avail_out;
      const bool stuck = result == Z_STREAM_END || stream_->avail_out == room;
      if ((result != Z_OK && result != Z_STREAM_END) || (stuck && made < count))
        return bad_zip("has an entry that is damaged, or shorter than it says");
    }
  }
  done_ += count;
  for (std::size_t at = begin; at < out.size();) {
    const auto piece = static_cast<uInt>(std::min<std::size_t>(out.size() - at, 1U << 30U));
    checksum_ = ::crc32(checksum_, reinterpret_cast<const Bytef*>(out.data() + at), piece);
    at += piece;
  }
  return {};
}

Status ZipStream::finish() {
  if (left() > 0) return bad_zip("has an entry that is longer than what it holds");
  if (checksum_ != wanted_) return bad_zip("has an entry whose checksum is wrong");
  return {};
}

Result<std::string> read_entry(std::string_view bytes, const ZipEntry& entry, std::size_t most) {
  if (entry.size > most) {
    return bad_zip(fmt::format("has '{}' of {} bytes, more than {}",
                               to_utf8(entry.name.substr(0, 100)), entry.size, most));
  }
  ZipStream stream = TRY(ZipStream::open(bytes, entry));
  std::string content;
  TRY(stream.read(static_cast<std::size_t>(entry.size), content));
  TRY(stream.finish());
  return content;
}

}  // namespace mayfly
