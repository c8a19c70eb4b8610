// Input: byte 0 picks a signature, then the JSON part, a NUL, and the binary tensors. Whatever
// decodes must be consistent with itself and must read without leaving its memory.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "core/wire/infer_request.h"

using namespace mayfly;

namespace {

constexpr SizeLimit kLimit{.bytes = 1 << 20, .setting = "max_body"};

Signature signature(std::uint8_t pick) {
  const auto type = static_cast<DataType>(1 + pick % 14);
  const Shape shape = pick < 64 ? Shape{-1} : pick < 128 ? Shape{-1, 3} : Shape{-1, 2, -1};
  return {.inputs = {{"x", type, shape}, {"s", DataType::Bytes, {-1}}},
          .outputs = {{"y", DataType::Fp32, {-1}}, {"z", DataType::Int64, {-1}}}};
}

std::span<const std::byte> take(std::span<const std::byte>& rest, std::size_t count) {
  const auto taken = rest.first(count);
  rest = rest.subspan(count);
  return taken;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data + 1), size - 1);
  const std::size_t split = std::min(all.find('\0'), all.size());
  const Signature model = signature(data[0]);
  static JsonParser parser;
  const auto request =
      decode_infer_request(parser, std::string(all.substr(0, split)), model, kLimit);
  if (!request) return 0;
  CHECK(request->inputs.size() == model.inputs.size());
  CHECK(!request->outputs.empty() && request->outputs.size() <= model.outputs.size());
  auto rest = std::as_bytes(std::span(all.substr(std::min(split + 1, all.size()))));
  if (!check_binary_size(*request, rest.size())) return 0;
  for (const InferInput& input : request->inputs) {
    CHECK(fits(input.shape, model.inputs.at(input.index)));
    if (input.source == InputSource::Shared) continue;  // of no body
    std::vector<std::byte> memory(input.bytes);
    if (input.source == InputSource::Json) {
      if (!read_json_input(input, memory)) continue;
    } else {
      const auto into = receive_input(input, memory);
      std::ranges::copy(take(rest, into.size()), into.begin());
      if (!check_received_input(input, memory)) continue;
    }
    CHECK(check_received_input(input, memory).has_value());
  }
  return 0;
}
