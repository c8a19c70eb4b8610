#include "cli/table.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace mayfly {
namespace {

constexpr auto kRedrawEvery = std::chrono::milliseconds(80);

bool is_quantity(std::string_view cell) {
  return !cell.empty() && (cell.front() == '-' || (cell.front() >= '0' && cell.front() <= '9'));
}

std::string padded(const std::string& cell, std::size_t width, bool right) {
  const std::string blanks(width - std::min(width, display_width(cell)), ' ');
  return right ? blanks + cell : cell + blanks;
}

std::int64_t monotonic_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

}  // namespace

std::size_t display_width(std::string_view utf8) {
  return static_cast<std::size_t>(
      std::ranges::count_if(utf8, [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string Table::str() const {
  std::vector<std::size_t> widths(rows_.front().size());
  std::vector<bool> right(rows_.front().size(), rows_.size() > 1);
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    for (std::size_t i = 0; i < rows_[row].size(); ++i) {
      widths[i] = std::max(widths[i], display_width(rows_[row][i]));
      if (row > 0 && !rows_[row][i].empty() && !is_quantity(rows_[row][i])) right[i] = false;
    }
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += (i > 0 ? "  " : "") + padded(row[i], widths[i], right[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 || value >= 99.5 ? fmt::format("{:.0f} {}", value, kUnits[unit])
                                    : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string human_micros(double microseconds) {
  if (microseconds < 999.5) return fmt::format("{:.0f} µs", microseconds);
  if (microseconds < 9'995) return fmt::format("{:.2f} ms", microseconds / 1e3);
  if (microseconds < 999'500) return fmt::format("{:.0f} ms", microseconds / 1e3);
  return fmt::format("{:.2f} s", microseconds / 1e6);
}

std::string human_ago(double seconds) {
  if (seconds < 90) return fmt::format("{:.0f} s ago", seconds);
  if (seconds < 5'400) return fmt::format("{:.0f} min ago", seconds / 60);
  if (seconds < 129'600) return fmt::format("{:.0f} h ago", seconds / 3'600);
  return fmt::format("{:.0f} days ago", seconds / 86'400);
}

std::string human_count(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t i = digits.size(); i > 3;) {
    i -= 3;
    digits.insert(i, ",");
  }
  return digits;
}

ProgressLine::ProgressLine() : terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::show(std::string_view text) {
  if (!terminal_) return;
  last_shown_ns_ = monotonic_ns();
  shown_ = true;
  fmt::print(stderr, "\r\033[K{}", text);
  (void)std::fflush(stderr);
}

void ProgressLine::show_bytes(std::string_view what, std::uint64_t done, std::uint64_t total) {
  if (!terminal_ || (done < total && monotonic_ns() - last_shown_ns_ <
                                         std::chrono::nanoseconds(kRedrawEvery).count())) {
    return;
  }
  constexpr std::size_t kWidth = 30;
  const std::size_t filled = total == 0 ? kWidth : static_cast<std::size_t>(done * kWidth / total);
  show(fmt::format("{} [{}{}] {} of {}", what, std::string(filled, '#'),
                   std::string(kWidth - filled, ' '), human_bytes(done), human_bytes(total)));
}

void ProgressLine::clear() {
  if (!shown_) return;
  fmt::print(stderr, "\r\033[K");
  (void)std::fflush(stderr);
  shown_ = false;
}

WaitingLine::WaitingLine(std::string what) : what_(std::move(what)) {
  if (line_.silent()) return;
  teller_ = std::jthread([this](const std::stop_token& stop) { tell(stop); });
}

void WaitingLine::tell(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  for (int seconds = 1;; ++seconds) {
    ended_.wait_for(lock, stop, std::chrono::seconds(1), [] { return false; });
    if (stop.stop_requested()) return;
    line_.show(fmt::format("{} … {} s", what_, seconds));
  }
}

}  // namespace mayfly
