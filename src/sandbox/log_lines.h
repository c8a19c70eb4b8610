// A jail's output as lines: bytes in, whole lines out, none longer than a bound. Hostile bytes.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace mayfly {

class LogLines {
 public:
  static constexpr std::size_t kLongest = 4096;
  using Sink = std::move_only_function<void(std::string_view line)>;

  explicit LogLines(Sink sink) : sink_(std::move(sink)) {}
  // Longer lines are cut into several. Control characters become spaces.
  void append(std::string_view bytes);
  // A last line without an end.
  void finish();

 private:
  void emit();
  Sink sink_;
  std::string line_;
};

}  // namespace mayfly
