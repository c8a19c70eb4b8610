// Finding the model file, and telling people who bring another format how to convert it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace mayfly {

// What a file is, by its first bytes and its name: ok when it may be ONNX, else invalid_model with
// what it is and the way to convert it.
Status check_is_onnx(std::string_view name, std::span<const std::byte> head, std::uint64_t size);

// The path (inside `source`) of the model: `wanted`, or the only *.onnx file. Links are not
// followed.
Result<std::string> find_model(const Path& source, std::string_view wanted);

}  // namespace mayfly
