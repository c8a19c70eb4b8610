// Whether two tellings of the same rows are the same: the graph's, and the trainer's own. A label
// may differ where two classes are as good as equal (1e-5), a number by 1e-5 of its size or of its
// scale.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "core/json_reader.h"
#include "runner/train/target.h"

namespace mayfly {

struct ParityReport {
  bool passed = false;
  // {"rows", "from": {"valid", "train", "perturbed", "missing", "unknown", "extreme"},
  // "label_mismatches", "ties", "worst": {"output", "onnx", "trainer", "difference", "allowed",
  // "from", "row"}}
  Json details;
};

class Agreement {
 public:
  struct Rows {  // of the one that is worst
    std::function<std::string(std::size_t row)> from;
    std::function<Json(std::size_t row)> shown;
  };
  // `classes` outlives me. `scale`: of numbers that are no probabilities.
  Agreement(const ClassNames& classes, double scale, Rows rows)
      : classes_(classes), scale_(scale), rows_(std::move(rows)) {}

  void compare_number(const std::string& output, std::size_t row, double said, double own);
  // The likeliest class of the trainer's own is the label that the graph said.
  void compare_label(const GraphValues& labels, std::size_t row, std::span<const float> own);
  // `gap`: how much farther away the cluster that the graph said is than the trainer's own, which
  // is `distance` away; nullopt: unknown.
  void compare_cluster(std::optional<std::size_t> said, std::size_t row, std::size_t own,
                       double distance, std::optional<double> gap);

  // Of a list: an item that is not the trainer's own is one that it finds as good, or is wrong.
  void compare_item(bool tie, std::size_t row, Json said, Json own) {
    tie_or_mismatch(tie, "items", row, std::move(said), std::move(own));
  }
  double allowed(double own) const;

  // `counts`: of rows, and where they are from.
  ParityReport report(std::size_t rows, Json counts) const;

 private:
  void tie_or_mismatch(bool tie, const char* output, std::size_t row, Json said, Json own);

  const ClassNames& classes_;
  double scale_;
  Rows rows_;
  std::size_t mismatches_ = 0;
  std::size_t ties_ = 0;
  double excess_ = -1;  // difference / allowed, at most
  Json worst_ = Json::object();
};

// Of a cluster, as a graph says it; nullopt: it is none.
std::optional<std::size_t> cluster_said(const GraphValues& values, std::size_t row);

// Splitmix64 (Steele, Lea, Flood 2014), as numbers from -1 to 1.
class Noise {
 public:
  explicit Noise(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e37'79b9'7f4a'7c15;
    z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9;
    z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11eb;
    return z ^ (z >> 31);
  }
  double real() { return static_cast<double>(bits() >> 11) * 0x1p-52 - 1; }

 private:
  std::uint64_t state_;
};

// At most so many of the rows, evenly spread.
std::vector<std::uint32_t> spread(std::span<const std::uint32_t> rows, std::size_t most);

}  // namespace mayfly
