// The files of the ledger folder:
//
//   000000000042.log      "mayflyL1" and frames (meter/record.h), only ever appended to
//   000000000042.totals   its sealed hourly totals (meter/totals.h), once it is complete
//
// A pruned segment has only its totals. Bytes that are no intact frame (a torn tail after a power
// cut, a damaged sector) are skipped up to the next intact one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"
#include "meter/totals.h"

namespace mayfly {

inline constexpr std::string_view kSegmentMagic = "mayflyL1";

struct SegmentInfo {
  std::uint64_t number = 0;
  bool has_log = false;
  bool has_totals = false;
  Bytes log_size;
};

Path log_path(const Path& folder, std::uint64_t number);
Path totals_path(const Path& folder, std::uint64_t number);

// By number. Foreign files are left alone.
Result<std::vector<SegmentInfo>> list_segments(const Path& folder);

// Reads the intact frames of one log from its beginning, in bounded memory. A log that is being
// appended to is read as far as it goes at that moment.
class SegmentReader {
 public:
  static Result<SegmentReader> open(const Path& log);  // NotFound: pruned

  // The next payload, valid until the next call; nullopt at the end.
  Result<std::optional<std::span<const std::byte>>> next();
  std::uint64_t intact_end() const { return intact_end_; }  // where the last intact frame ends
  std::uint64_t skipped() const { return skipped_; }        // damaged bytes before that

 private:
  explicit SegmentReader(Fd file) : file_(std::move(file)) {}
  Status fill();

  Fd file_;
  std::vector<std::byte> buffer_;
  std::size_t at_ = 0;              // in buffer_
  std::uint64_t buffer_start_ = 0;  // offset of buffer_[0] in the file
  bool exhausted_ = false;
  std::uint64_t intact_end_ = 0;
  std::uint64_t skipped_ = 0;
};

// The totals of a log, from its records.
Result<SegmentTotals> total_up(const Path& folder, std::uint64_t number);
Result<SegmentTotals> read_totals(const Path& folder, std::uint64_t number);

}  // namespace mayfly
