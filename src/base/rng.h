// Randomness is a parameter too. Tests seed a FakeRng and print the seed on failure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mayfly {

class Rng {
 public:
  virtual ~Rng() = default;
  virtual void fill(std::span<std::byte> bytes) = 0;
  std::uint64_t next() {
    std::uint64_t value = 0;
    fill(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
};

// The kernel's generator (getrandom).
class SystemRng final : public Rng {
 public:
  void fill(std::span<std::byte> bytes) override;
};

}  // namespace mayfly
