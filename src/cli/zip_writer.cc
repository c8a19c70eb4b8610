// For each file a local header, then its bytes; behind all of them a directory, and its end
// (APPNOTE 4.3). Numbers are little-endian.
#include "cli/zip_writer.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "core/reason.h"

namespace mayfly {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::size_t kMostFiles = 65'535;
constexpr std::uint64_t kMostBytes = 0xFFFF'FFFEU;
constexpr std::uint16_t kUtf8Names = 1U << 11U;

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

struct Stored {
  std::string name;
  std::uint32_t checksum = 0;
  std::uint32_t size = 0;
  std::uint32_t offset = 0;
};

// What both headers of an entry have in common.
void put_facts(std::string& out, const Stored& entry) {
  put<std::uint16_t>(out, 20);  // version that reads it
  put<std::uint16_t>(out, kUtf8Names);
  put<std::uint16_t>(out, 0);            // stored
  put<std::uint32_t>(out, 0x0021'0000);  // 1980-01-01: equal folders make equal bytes
  put(out, entry.checksum);
  put(out, entry.size);
  put(out, entry.size);
  put(out, static_cast<std::uint16_t>(entry.name.size()));
  put<std::uint16_t>(out, 0);  // extra
}

std::string local_header(const Stored& entry) {
  std::string out = "PK\x03\x04";
  put_facts(out, entry);
  return out + entry.name;
}

std::string central_header(const Stored& entry) {
  std::string out = "PK\x01\x02";
  put<std::uint16_t>(out, 20);
  put_facts(out, entry);
  put<std::uint16_t>(out, 0);  // comment
  put<std::uint16_t>(out, 0);  // volume
  put<std::uint16_t>(out, 0);
  put<std::uint32_t>(out, 0);
  put(out, entry.offset);
  return out + entry.name;
}

std::string end_record(std::size_t entries, std::size_t directory, std::uint64_t offset) {
  std::string out("PK\x05\x06\0\0\0\0", 8);
  put(out, static_cast<std::uint16_t>(entries));
  put(out, static_cast<std::uint16_t>(entries));
  put(out, static_cast<std::uint32_t>(directory));
  put(out, static_cast<std::uint32_t>(offset));
  put<std::uint16_t>(out, 0);
  return out;
}

std::unexpected<Error> too_large(const Path& folder) {
  return refuse(reason::kTooLarge,
                fmt::format("{} has more than {} files or 4 GiB: send it as a zip archive of your "
                            "own",
                            folder.native(), kMostFiles));
}

Result<std::vector<Path>> files_in(const Path& folder) {
  std::vector<Path> files;
  std::error_code error;
  auto entry = std::filesystem::recursive_directory_iterator(folder, error);
  for (; !error && entry != std::filesystem::recursive_directory_iterator();
       entry.increment(error)) {
    if (entry->path().filename().native().starts_with('.')) {
      if (entry->is_directory()) entry.disable_recursion_pending();
      continue;
    }
    if (entry->is_regular_file() && !entry->is_symlink()) files.push_back(entry->path());
    if (files.size() > kMostFiles) return too_large(folder);
  }
  if (error) return std::unexpected(errno_error(folder.native(), error.value()));
  std::ranges::sort(files);
  return files;
}

}  // namespace

Status zip_folder(const Path& folder, const Path& into) {
  const std::vector<Path> files = TRY(files_in(folder));
  std::ofstream out(into, std::ios::binary);
  std::uint64_t offset = 0;
  std::string directory;
  for (const Path& file : files) {
    const std::uint64_t size = TRY(mayfly::file_size(file));
    if (offset + size > kMostBytes) return too_large(folder);
    const std::string bytes = TRY(read_file(file, static_cast<std::size_t>(size)));
    const auto checksum =
        ::crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size()));
    const Stored entry{.name = file.lexically_relative(folder).generic_string(),
                       .checksum = static_cast<std::uint32_t>(checksum),
                       .size = static_cast<std::uint32_t>(bytes.size()),
                       .offset = static_cast<std::uint32_t>(offset)};
    const std::string header = local_header(entry);
    out << header << bytes;
    directory += central_header(entry);
    offset += header.size() + bytes.size();
    if (offset + directory.size() > kMostBytes) return too_large(folder);
  }
  out << directory << end_record(files.size(), directory.size(), offset);
  out.close();
  if (!out) return fail_errno(into.native());
  return {};
}

}  // namespace mayfly
