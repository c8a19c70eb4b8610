// The request of a publish job, from the server to the jail.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "core/function_options.h"

namespace mayfly {

struct PublishJob {
  std::string model;    // path inside the source; empty: the only *.onnx there
  std::string example;  // path inside the source; empty: example.json if it exists
  std::uint32_t threads = 1;
  Duration timeout = std::chrono::seconds(30);  // for one run of the model
  Bytes instance_memory = mib(512);
  Bytes publish_memory = gib(2);  // what the jail is limited to
  // Rows of the batches that requests will run in; 1: they run one by one. Forms are chosen by it.
  std::uint32_t batch_rows = 1;
  std::optional<FunctionOptions> function = {};  // of Python; none: a model
  bool operator==(const PublishJob&) const = default;
};
std::string to_json(const PublishJob& job);
Result<PublishJob> parse_publish_job(std::string_view json);

}  // namespace mayfly
