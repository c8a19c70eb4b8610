// JSON text → the bytes of a tensor. The text is one array, flat in row-major order or nested
// exactly like the shape (or one bare scalar, for rank 0), as it stands in a request: no tree is
// built and nothing is allocated per element.
//
// Exactness: integers are read exactly and refused outside the datatype's range; floating-point
// numbers are rounded once, from the decimal text to the datatype. NaN, Infinity and -Infinity are
// accepted as Python writes them. BOOL takes true, false, 1 and 0. BYTES takes strings and, where
// JsonBytes says so, {"b64":"…"}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/json_base64.h"

namespace mayfly {

// How the arrays nest, measured along the first element of each level: [[1,2,3],[4,5,6]] is [2,3],
// 5 is []. read_json_tensor then finds whether the rest agrees.
Result<Shape> json_nesting(std::string_view text, JsonBytes bytes = JsonBytes::Text);

// What a BYTES tensor of these elements occupies: 4 bytes and the unescaped or decoded text each.
// Checks everything that read_json_tensor would.
Result<std::uint64_t> json_bytes_size(std::string_view text, std::span<const std::int64_t> shape,
                                      JsonBytes bytes = JsonBytes::Text);

// Fills `destination`, whose size is the tensor's.
Status read_json_tensor(std::string_view text, DataType type, std::span<const std::int64_t> shape,
                        std::span<std::byte> destination, JsonBytes bytes = JsonBytes::Text);

// Refuses text nested deeper than `levels`. Only for text whose strings are known to be closed.
Status check_json_depth(std::string_view text, std::size_t levels);
inline constexpr std::size_t kMaxJsonDepth = 64;

}  // namespace mayfly
