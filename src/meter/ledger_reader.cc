#include "meter/ledger_reader.h"

#include "meter/segment.h"

namespace mayfly {
namespace {

// Sealed totals win, so that usage is the same before and after pruning. Between the listing and
// the reading a log may be sealed or pruned; pruning leaves totals behind, hence the second look.
Result<SegmentTotals> totals_of(const Path& folder, std::uint64_t number) {
  auto sealed = read_totals(folder, number);
  if (sealed || sealed.error().code != Code::NotFound) return sealed;
  auto counted = total_up(folder, number);
  if (counted || counted.error().code != Code::NotFound) return counted;
  return read_totals(folder, number);
}

Result<bool> may_overlap(const Path& folder, const SegmentInfo& info, const TimeRange& range) {
  if (!info.has_totals) return true;
  const SegmentTotals totals = TRY(read_totals(folder, info.number));
  return totals.records > 0 && totals.latest >= range.from && totals.earliest < range.until;
}

}  // namespace

Status for_each_record(const Path& folder, const TimeRange& range,
                       const std::function<Status(const InvocationRecord&)>& visit) {
  const auto segments = TRY(list_segments(folder));
  for (const SegmentInfo& info : segments) {
    const bool wanted = TRY(may_overlap(folder, info, range));
    if (!info.has_log || !wanted) continue;
    auto reader = SegmentReader::open(log_path(folder, info.number));
    if (!reader && reader.error().code == Code::NotFound) continue;  // pruned meanwhile
    if (!reader) return std::unexpected(std::move(reader).error());
    while (const auto payload = TRY(reader->next())) {
      const InvocationRecord record = TRY(decode_record(*payload));
      if (range.contains(record.time)) TRY(visit(record));
    }
  }
  return {};
}

Result<UsageTable> read_usage(const Path& folder, const HourRange& range) {
  UsageTable usage;
  const auto segments = TRY(list_segments(folder));
  for (const SegmentInfo& info : segments) {
    const SegmentTotals totals = TRY(totals_of(folder, info.number));
    for (const auto& [key, row] : totals.usage.rows()) {
      if (range.contains(key.hour)) usage.add(key, row);
    }
  }
  return usage;
}

}  // namespace mayfly
