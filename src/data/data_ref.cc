#include "data/data_ref.h"

#include <fmt/format.h>

#include "core/reason.h"

namespace mayfly {

std::string to_string(const DataRef& data) {
  return fmt::format("{}@{}", data.dataset, data.snapshot);
}

Json to_json_value(const DataRef& data) {
  return {{"dataset", data.dataset}, {"snapshot", data.snapshot}};
}

Result<DataRef> parse_data_ref(std::string_view detail) {
  const Json json = TRY(parse_json(detail, "job"));
  const auto found = json.is_object() ? json.find("data") : json.end();
  if (!json.is_object() || found == json.end())
    return refuse(reason::kInternal, "the job names no snapshot");
  DataRef data;
  JsonReader reader(*found, "data", reason::kInternal);
  reader.text("dataset", data.dataset).integer("snapshot", data.snapshot, 1U, ~0U);
  TRY(reader.finish());
  return data;
}

}  // namespace mayfly
