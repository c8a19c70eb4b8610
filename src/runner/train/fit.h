// What learns, step by step: the part of a trainer that the worker drives, whatever it learns from.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly {

class Fit {
 public:
  virtual ~Fit() = default;
  virtual std::uint32_t rounds() const = 0;       // steps that are done
  virtual std::uint32_t most_rounds() const = 0;  // all there are
  virtual Status step() = 0;
  // From now on only the first so many rounds count, as far as the trainer can tell them apart.
  virtual Status keep_rounds(std::uint32_t rounds) = 0;
  // All that the next step depends on; `restore` of what `save` gave, before the first step.
  virtual Result<std::string> save() = 0;
  virtual Status restore(std::string_view saved) = 0;
};

}  // namespace mayfly
