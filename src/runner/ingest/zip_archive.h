// ZIP archives (APPNOTE 6.3.10: stored and deflated entries, ZIP64 sizes), read from memory. No
// I/O. What an archive says of itself is not believed: entries are bounded in number, size and
// ratio, lie within the file, do not share its bytes, and have plain relative paths; what an entry
// holds is as long as it says and has its checksum. All complaints are invalid_input.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

struct ZipLimits {
  std::size_t entries = 1'000'000;
  std::uint64_t expanded = std::uint64_t{64} << 30U;  // all of them
  std::uint64_t ratio = 1100;  // of each: deflate makes at most 1032 of 1, from 1 MiB on
};

struct ZipEntry {
  std::string name;  // "cat/1.png"; folders end in '/'
  std::uint64_t packed = 0;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;  // of its local header
  std::uint32_t checksum = 0;
  bool deflated = false;
  bool is_folder() const { return name.ends_with('/'); }
};

// In the order of the directory. `bytes`: the whole file.
Result<std::vector<ZipEntry>> read_zip(std::string_view bytes, const ZipLimits& limits = {});

// An entry's content, piece by piece; `bytes` outlives me.
class ZipStream {
 public:
  static Result<ZipStream> open(std::string_view bytes, const ZipEntry& entry);
  ZipStream(ZipStream&&) noexcept = default;

  // Exactly so many bytes more, appended.
  Status read(std::size_t count, std::string& out);
  // After all of it: whether that was the end, and its checksum is right.
  Status finish();
  std::uint64_t left() const { return size_ - done_; }

 private:
  struct End {
    void operator()(z_stream* stream) const;
  };
  ZipStream() = default;

  std::string_view packed_;
  std::uint64_t size_ = 0;
  std::uint64_t done_ = 0;
  std::uint32_t wanted_ = 0;
  uLong checksum_ = 0;
  std::unique_ptr<z_stream, End> stream_;  // of what is deflated
};

// All of an entry of at most `most` bytes.
Result<std::string> read_entry(std::string_view bytes, const ZipEntry& entry, std::size_t most);

}  // namespace mayfly
