#include "core/batching.h"

#include <algorithm>
#include <chrono>

#include "core/reason.h"
#include "core/rows.h"
#include "core/units.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxPreferred = 16;

bool is_rows(const Json& json) {
  return json.is_number_unsigned() && json.get<std::uint64_t>() >= 1 &&
         json.get<std::uint64_t>() <= kLargestBatch;
}

void read_max_batch(JsonReader& reader, Batching& batching) {
  const Json* found = reader.value("max_batch");
  if (found == nullptr) return;
  if (*found == "off") {
    batching.mode = BatchMode::Off;
    batching.max_rows = 1;
  } else if (*found == "auto") {
    batching.mode = BatchMode::Auto;
    batching.max_rows = kLargestBatch;
  } else if (is_rows(*found) && *found > 1) {
    batching.mode = BatchMode::Fixed;
    batching.max_rows = found->get<std::uint32_t>();
  } else {
    reader.error("max_batch",
                 fmt::format("must be \"off\", \"auto\" or from 2 to {} rows", kLargestBatch));
  }
}

void read_preferred(JsonReader& reader, Batching& batching) {
  const Json* found = reader.value("preferred_batch");
  if (found == nullptr) return;
  // One number needs no list.
  const Json list = found->is_array() ? *found : Json::array({*found});
  const bool good = list.size() <= kMaxPreferred && std::ranges::all_of(list, is_rows) &&
                    std::ranges::is_sorted(list, std::less_equal<>{});
  if (!good) {
    return reader.error("preferred_batch",
                        fmt::format("must list up to {} sizes in rows, ascending", kMaxPreferred));
  }
  batching.preferred = list.get<std::vector<std::uint32_t>>();
  if (!batching.preferred.empty() && batching.preferred.back() > batching.max_rows)
    reader.error("preferred_batch", "has a size above max_batch");
}

}  // namespace

std::uint32_t usual_rows(const Batching& batching) {
  constexpr std::uint32_t kUsual = 16;
  return batching.mode == BatchMode::Off ? 1 : std::min(batching.max_rows, kUsual);
}

void read_batching(JsonReader& reader, Batching& batching) {
  read_max_batch(reader, batching);
  reader.duration("max_delay", batching.max_delay, 0ms, 10s)
      .duration("batch_latency", batching.target, 1ms, 1h);
  read_preferred(reader, batching);
  if (batching.mode != BatchMode::Fixed && batching.max_delay > 0ms)
    reader.error("max_delay", "needs max_batch in rows: \"auto\" never waits");
}

void add_batching(Json& options, const Batching& batching) {
  options["max_batch"] = batching.mode == BatchMode::Off    ? Json("off")
                         : batching.mode == BatchMode::Auto ? Json("auto")
                                                            : Json(batching.max_rows);
  options["max_delay"] = to_string(batching.max_delay);
  options["preferred_batch"] = batching.preferred;
  options["batch_latency"] = to_string(batching.target);
}

Status check_batchable(const Signature& signature) {
  const auto check = [](std::string_view what, const std::vector<TensorSpec>& specs) -> Status {
    for (const TensorSpec& spec : specs) {
      if (begins_with_rows(spec)) continue;
      return refuse(reason::kInvalidManifest,
                    fmt::format("max_batch: the model has no batch dimension: the shape of its {} "
                                "'{}' is {}, which does not begin with a free dimension",
                                what, spec.name, to_string(spec.shape)));
    }
    return {};
  };
  TRY(check("input", signature.inputs));
  return check("output", signature.outputs);
}

}  // namespace mayfly
