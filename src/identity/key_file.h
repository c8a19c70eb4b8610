// Keys of the node's own, each in a small file of the data folder that only its owner may read.
// Calls block.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "base/rng.h"

namespace mayfly {

using KeyBytes = std::array<std::byte, 32>;

// What an operator is told when the file is not as it must be.
struct KeyFileWords {
  std::string_view danger;  // of a file that others may read
  std::string_view loss;    // of one that is damaged, and what to do
};

// nullopt: there is no such file. FailedPrecondition: others may read it. DataLoss: it is no key.
Result<std::optional<KeyBytes>> read_key_file(const Path& path, const KeyFileWords& words);
// In a new file; one that is there already is an error.
Result<KeyBytes> create_key_file(const Path& path, Rng& rng);

}  // namespace mayfly
