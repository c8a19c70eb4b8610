// The bytes of a tensor → JSON text. The bytes may lie in memory that a hostile instance still
// writes to: every value and length is copied once and the copy is what is checked and written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/size_limit.h"

namespace mayfly {

enum class JsonNesting : std::uint8_t {
  Flat,    // one array in row-major order
  Shaped,  // arrays within arrays, like the shape; a scalar stands bare
};

// Appends the tensor's value to `out`, which may grow to `limit`. Numbers read back exactly; FP16
// and BF16 are written as the numbers they are; BYTES that are not UTF-8 are an error that advises
// binary data.
Status append_json_tensor(std::string& out, DataType type, std::span<const std::int64_t> shape,
                          std::span<const std::byte> bytes, JsonNesting nesting,
                          const SizeLimit& limit);

}  // namespace mayfly
