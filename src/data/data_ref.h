// Which snapshot a job is about, as its detail names it beside what is asked of it:
// {"data": {"dataset": "credit", "snapshot": 3}, …}. Values only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "core/json_reader.h"

namespace mayfly {

struct DataRef {
  std::string dataset;  // of the job's project
  std::uint32_t snapshot = 0;
  bool operator==(const DataRef&) const = default;
};
std::string to_string(const DataRef& data);  // "credit@3"
Json to_json_value(const DataRef& data);
// Of a job's detail.
Result<DataRef> parse_data_ref(std::string_view detail);

}  // namespace mayfly
