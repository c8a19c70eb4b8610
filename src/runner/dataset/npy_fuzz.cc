// Headers of columns: what is taken is within its bytes and adds up.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runner/dataset/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mayfly;
  const auto header = parse_npy({reinterpret_cast<const char*>(data), size});
  if (!header) {
    CHECK(header.error().code == Code::InvalidArgument);
    return 0;
  }
  CHECK(header->offset <= size && !header->shape.empty());
  std::uint64_t elements = 1;
  for (const std::uint64_t dimension : header->shape) elements *= dimension;
  CHECK(elements == header->elements);
  return 0;
}
