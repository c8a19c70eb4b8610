// Output for people: aligned tables, short numbers, a progress line.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace mayfly {

class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.size() == 1; }
  // Columns are as wide as their widest cell (in characters); cells that look like quantities are
  // right-aligned.
  std::string str() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string human_bytes(std::uint64_t bytes);   // "29.4 MB"
std::string human_micros(double microseconds);  // "350 µs", "1.2 ms", "3.4 s"
std::string human_ago(double seconds);          // "12 s ago"
std::string human_count(std::uint64_t count);   // "12,345"
std::size_t display_width(std::string_view utf8);

// One line on stderr that is rewritten in place while something takes longer than a moment. Silent
// when stderr is no terminal.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  void show(std::string_view text);
  void show_bytes(std::string_view what, std::uint64_t done, std::uint64_t total);
  void clear();
  bool silent() const { return !terminal_; }

 private:
  bool terminal_ = false;
  bool shown_ = false;
  std::int64_t last_shown_ns_ = 0;
};

// Says "WHAT … 3 s" on stderr from the first second on, as long as it lives: for calls that may
// take long and tell nothing meanwhile. Silent when stderr is no terminal.
class WaitingLine {
 public:
  explicit WaitingLine(std::string what);

 private:
  void tell(const std::stop_token& stop);
  ProgressLine line_;
  std::string what_;
  std::mutex mutex_;
  std::condition_variable_any ended_;
  std::jthread teller_;  // ends before the rest
};

}  // namespace mayfly
