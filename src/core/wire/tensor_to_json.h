// The bytes of a tensor → JSON text. The bytes may lie in memory that a hostile instance still
// writes to: every value and length is copied once and the copy is what is checked and written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/json_base64.h"
#include "core/wire/size_limit.h"

namespace mayfly {

enum class JsonNesting : std::uint8_t {
  Flat,    // one array in row-major order
  Shaped,  // arrays within arrays, like the shape; a scalar stands bare
};

// A tensor and how it is written.
struct JsonTensor {
  DataType type = DataType::Fp32;
  std::span<const std::int64_t> shape;
  std::span<const std::byte> bytes;
  JsonNesting nesting = JsonNesting::Shaped;
  JsonBytes elements = JsonBytes::Text;  // of BYTES
};

// Appends the tensor's value to `out`, which may grow to `limit`. Numbers read back exactly; FP16
// and BF16 are written as the numbers they are; BYTES that are not UTF-8 are an error that advises
// binary data where JsonBytes has no form for them.
Status append_json_tensor(std::string& out, const JsonTensor& tensor, const SizeLimit& limit);

// Appends the next of the tensor's rows, its values along dimension 0, and takes its bytes off
// `rest`. The shape stays: who calls counts.
Status append_json_row(std::string& out, JsonTensor& rest, const SizeLimit& limit);

}  // namespace mayfly
