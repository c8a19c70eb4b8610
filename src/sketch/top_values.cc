#include "sketch/top_values.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace mayfly {
namespace {

std::string_view shortened(std::string_view text) {
  if (text.size() <= TopValues::kLongest) return text;
  std::size_t end = TopValues::kLongest;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) --end;
  return text.substr(0, end);
}

}  // namespace

void TopValues::add(std::string_view value) {
  value = shortened(value);
  if (const auto known = counters_.find(value); known != counters_.end()) {
    ++known->second.count;
    return;
  }
  if (counters_.size() < kKept) {
    counters_.emplace(value, Counter{.count = 1, .error = 0});
    return;
  }
  // Takes the place of the least frequent one; which of equals does not depend on the hash.
  const auto least = std::ranges::min_element(counters_, [](const auto& a, const auto& b) {
    return std::pair(a.second.count, std::string_view(b.first)) <
           std::pair(b.second.count, std::string_view(a.first));
  });
  const std::uint64_t count = least->second.count;
  counters_.erase(least);
  counters_.emplace(value, Counter{.count = count + 1, .error = count});
}

std::uint64_t TopValues::least() const {
  if (counters_.size() < kKept) return 0;
  return std::ranges::min_element(counters_, {},
                                  [](const auto& entry) { return entry.second.count; })
      ->second.count;
}

void TopValues::merge(const TopValues& other) {
  const std::uint64_t ours = least();
  const std::uint64_t theirs = other.least();
  Counters merged;
  for (const auto& [value, counter] : counters_) {
    const auto there = other.counters_.find(value);
    const Counter more = there == other.counters_.end() ? Counter{theirs, theirs} : there->second;
    merged[value] = {.count = counter.count + more.count, .error = counter.error + more.error};
  }
  for (const auto& [value, counter] : other.counters_) {
    if (counters_.contains(value)) continue;
    merged[value] = {.count = counter.count + ours, .error = counter.error + ours};
  }
  counters_ = std::move(merged);
  Counters kept;
  for (Entry& entry : top(kKept))
    kept[std::move(entry.value)] = {.count = entry.count, .error = entry.error};
  counters_ = std::move(kept);
}

std::vector<TopValues::Entry> TopValues::top(std::size_t most) const {
  std::vector<Entry> entries;
  for (const auto& [value, counter] : counters_)
    entries.push_back({.value = value, .count = counter.count, .error = counter.error});
  std::ranges::sort(entries, [](const Entry& a, const Entry& b) {
    return a.count != b.count ? a.count > b.count : a.value < b.value;
  });
  if (entries.size() > most) entries.resize(most);
  return entries;
}

void TopValues::append_to(std::string& out) const {
  const std::vector<Entry> entries = top(kKept);
  append_value(out, static_cast<std::uint32_t>(entries.size()));
  for (const Entry& entry : entries) {
    append_text(out, entry.value);
    append_value(out, entry.count);
    append_value(out, entry.error);
  }
}

Result<TopValues> TopValues::parse(ByteReader& reader) {
  const auto damaged = [] { return fail(Code::DataLoss, "a sketch of top values is damaged"); };
  TopValues sketch;
  const auto entries = TRY(reader.value<std::uint32_t>());
  if (entries > kKept) return damaged();
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::string_view value = TRY(reader.text());
    const auto count = TRY(reader.value<std::uint64_t>());
    const auto error = TRY(reader.value<std::uint64_t>());
    const bool sound = value.size() <= kLongest && to_utf8(value) == value && count >= 1 &&
                       error < count && count < std::uint64_t{1} << 62U;
    if (!sound || !sketch.counters_.emplace(value, Counter{count, error}).second) return damaged();
  }
  return sketch;
}

}  // namespace mayfly
