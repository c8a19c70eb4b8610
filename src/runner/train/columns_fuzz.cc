// A schema comes from the jail that decoded foreign bytes: what parses has columns of different
// names.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "base/check.h"
#include "runner/train/table.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto columns = mayfly::parse_columns({reinterpret_cast<const char*>(data), size});
  if (!columns) return 0;
  std::set<std::string> names;
  for (const auto& column : *columns) CHECK(names.insert(column.name).second);
  return 0;
}
