#include "meter/segment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <map>
#include <system_error>

#include "base/log.h"

namespace mayfly {
namespace {

constexpr std::size_t kReadChunk = std::size_t{256} * 1024;
constexpr std::size_t kTotalsLimit = std::size_t{1} << 30;

std::optional<std::uint64_t> parse_number(std::string_view stem) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(stem.data(), stem.data() + stem.size(), number);
  if (error != std::errc{} || end != stem.data() + stem.size() || number == 0) return std::nullopt;
  return number;
}

}  // namespace

Path log_path(const Path& folder, std::uint64_t number) {
  return folder / fmt::format("{:012}.log", number);
}

Path totals_path(const Path& folder, std::uint64_t number) {
  return folder / fmt::format("{:012}.totals", number);
}

Result<std::vector<SegmentInfo>> list_segments(const Path& folder) {
  std::map<std::uint64_t, SegmentInfo> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const auto number = parse_number(entry.path().stem().native());
    if (!number) continue;
    SegmentInfo& info = found[*number];
    info.number = *number;
    if (entry.path() == totals_path(folder, *number)) info.has_totals = true;
    if (entry.path() != log_path(folder, *number)) continue;
    std::error_code gone;
    info.log_size.count = entry.file_size(gone);
    info.has_log = !gone;
  }
  if (error) return std::unexpected(errno_error(folder.native(), error.value()));
  std::vector<SegmentInfo> segments;
  for (const auto& [number, info] : found) {
    if (info.has_log || info.has_totals) segments.push_back(info);
  }
  return segments;
}

Result<SegmentReader> SegmentReader::open(const Path& log) {
  SegmentReader reader(TRY(open_file(log, O_RDONLY)));
  while (reader.buffer_.size() < kSegmentMagic.size() && !reader.exhausted_) TRY(reader.fill());
  // A damaged head is skipped like any other damage; formats are guarded by the data folder's
  // version.
  const std::size_t head = std::min(reader.buffer_.size(), kSegmentMagic.size());
  if (std::ranges::equal(std::span(reader.buffer_).first(head),
                         std::as_bytes(std::span(kSegmentMagic)))) {
    reader.at_ = kSegmentMagic.size();
    reader.intact_end_ = kSegmentMagic.size();
  }
  return reader;
}

Status SegmentReader::fill() {
  buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(at_));
  buffer_start_ += at_;
  at_ = 0;
  const std::size_t kept = buffer_.size();
  buffer_.resize(kept + kReadChunk);
  while (true) {
    const ssize_t got = ::pread(file_.get(), buffer_.data() + kept, kReadChunk,
                                static_cast<off_t>(buffer_start_ + kept));
    if (got < 0 && errno == EINTR) continue;
    buffer_.resize(kept + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0) return fail_errno("read the ledger");
    exhausted_ = got == 0;
    return {};
  }
}

Result<std::optional<std::span<const std::byte>>> SegmentReader::next() {
  while (true) {
    // A frame is judged only when all of it could be here.
    while (!exhausted_ && buffer_.size() - at_ < kFrameHead + kMaxPayload) TRY(fill());
    const auto rest = std::span<const std::byte>(buffer_).subspan(at_);
    if (rest.size() < kFrameHead + kMinPayload) return std::nullopt;
    if (const auto payload = intact_frame(rest)) {
      skipped_ += buffer_start_ + at_ - intact_end_;
      at_ += kFrameHead + payload->size();
      intact_end_ = buffer_start_ + at_;
      return payload;
    }
    ++at_;
  }
}

Result<SegmentTotals> total_up(const Path& folder, std::uint64_t number) {
  SegmentReader reader = TRY(SegmentReader::open(log_path(folder, number)));
  SegmentTotals totals;
  totals.segment = number;
  while (const auto payload = TRY(reader.next())) totals.add(TRY(decode_record(*payload)));
  if (reader.skipped() > 0) {
    LOG(warn, "damaged bytes in the ledger", {"segment", number}, {"bytes", reader.skipped()});
  }
  return totals;
}

Result<SegmentTotals> read_totals(const Path& folder, std::uint64_t number) {
  const Path path = totals_path(folder, number);
  const std::string file = TRY(read_file(path, kTotalsLimit));
  auto totals = decode_totals(std::as_bytes(std::span(file)));
  if (!totals) return std::unexpected(std::move(totals).error().in(path.native()));
  if (totals->segment != number) {
    return fail(Code::DataLoss, fmt::format("{} covers another segment", path.native()));
  }
  return totals;
}

}  // namespace mayfly
