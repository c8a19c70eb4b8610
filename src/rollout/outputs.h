// What is remembered of a version's outputs: bounded sums that merge, never the outputs themselves.
// A value that is not finite is counted and touches no sum.
//
// An output is one name. Where the last dimension holds separate quantities (the probabilities of
// classes), give each column a name of its own, "score[0]", "score[1]": a sum over classes that
// always add up to 1 shows nothing. Up to 16 columns are worth it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace mayfly::rollout {

// Count, mean and spread of finite values (Welford 1962; merged as in Chan, Golub, LeVeque 1979).
// Values count as at most 1e100 in size, so that no square overflows.
struct Moments {
  std::uint64_t count = 0;
  double mean = 0;
  double squares = 0;  // the sum of squared deviations from the mean
  double low = 0;      // smallest and largest value; 0 while count is 0
  double high = 0;

  void add(double value);  // finite
  void merge(const Moments& other);
  double variance() const;  // 0 below two values
  bool operator==(const Moments&) const = default;
};

// One output (or column) of one reply. Built by whoever reads the tensor, of whatever type.
class OutputSummary {
 public:
  explicit OutputSummary(std::string_view name) : name_(name) {}  // the text outlives me
  void add(double value);

  std::string_view name() const { return name_; }
  const Moments& moments() const { return moments_; }
  std::uint64_t non_finite() const { return non_finite_; }
  // Equal for replies with the same values; and for all replies that repeat one value, however
  // often, so that the size of a batch hides no constant.
  std::uint64_t fingerprint() const;

 private:
  std::string_view name_;
  Moments moments_;
  std::uint64_t non_finite_ = 0;
  std::uint64_t chain_ = 0;  // of all values, in order
  std::uint64_t first_ = 0;
  bool uniform_ = true;
};

// All replies of one version in one step.
struct OutputEvidence {
  static constexpr std::size_t kPrints = 32;

  std::uint64_t replies = 0;
  std::uint64_t non_finite = 0;          // values
  std::uint64_t non_finite_replies = 0;  // replies with one or more
  Moments moments;
  std::uint64_t first_print = 0;  // fingerprint of the first reply
  bool varied = false;            // not all replies had that fingerprint
  // Replies by fingerprint modulo kPrints. The fullest bounds from above how often the commonest
  // reply comes.
  std::array<std::uint64_t, kPrints> prints{};

  void add(const OutputSummary& summary);
  void merge(const OutputEvidence& other);
  std::uint64_t commonest() const;
  bool operator==(const OutputEvidence&) const = default;
};

// Cohen's d: the distance of the means in pooled standard deviations, at most kLargestEffect (two
// different constants have no spread to measure by). 0 when either side has no finite value.
double effect_size(const Moments& champion, const Moments& challenger);
inline constexpr double kLargestEffect = 1e6;

}  // namespace mayfly::rollout
