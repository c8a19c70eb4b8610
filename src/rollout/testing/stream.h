// Simulated requests from a seeded stream: the same seed, the same requests.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <span>

#include "base/clock.h"
#include "base/rng.h"

namespace mayfly::rollout::testing {

// SplitMix64 (Steele, Lea, Flood 2014).
class SeededRng final : public Rng {
 public:
  explicit SeededRng(std::uint64_t seed) : state_(seed) {}
  void fill(std::span<std::byte> bytes) override {
    while (!bytes.empty()) {
      const std::uint64_t word = draw();
      const std::size_t size = std::min(bytes.size(), sizeof word);
      std::memcpy(bytes.data(), &word, size);
      bytes = bytes.subspan(size);
    }
  }

 private:
  std::uint64_t draw() {
    std::uint64_t x = state_ += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
  }
  std::uint64_t state_;
};

class Stream {
 public:
  explicit Stream(std::uint64_t seed) : rng_(seed) {}
  double uniform() { return static_cast<double>(rng_.next() >> 11) * 0x1p-53; }
  bool chance(double share) { return uniform() < share; }
  // Box and Muller 1958.
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }
  // Log-normal around a median; a spread of 0.3 is a p95 of 1.6 medians.
  Duration time(Duration median, double spread = 0.3) {
    const double ns = static_cast<double>(median.count()) * std::exp(spread * normal());
    return Duration(static_cast<Duration::rep>(ns));
  }

 private:
  SeededRng rng_;
};

}  // namespace mayfly::rollout::testing
