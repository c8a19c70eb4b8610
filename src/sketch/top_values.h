// The most frequent values of a stream: Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient
// Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005). What occurs more often
// than once in 64 values is among them; a count is too large by its `error` at most. Merging is
// that of Agarwal et al. ("Mergeable Summaries", PODS 2012).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "sketch/byte_reader.h"

namespace mayfly {

class TopValues {
 public:
  struct Entry {
    std::string value;
    std::uint64_t count = 0;
    std::uint64_t error = 0;  // at most so many of them were others
  };

  void add(std::string_view value);  // its first kLongest bytes, at a character's end
  void merge(const TopValues& other);
  // The most frequent first; equal counts by value.
  std::vector<Entry> top(std::size_t most) const;

  void append_to(std::string& out) const;
  static Result<TopValues> parse(ByteReader& reader);

  static constexpr std::size_t kKept = 64;
  static constexpr std::size_t kLongest = 128;

 private:
  struct Counter {
    std::uint64_t count = 0;
    std::uint64_t error = 0;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };
  using Counters = std::unordered_map<std::string, Counter, Hash, std::equal_to<>>;

  std::uint64_t least() const;  // 0 while there is room
  Counters counters_;
};

}  // namespace mayfly
