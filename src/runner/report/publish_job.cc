#include "runner/report/publish_job.h"

#include "core/batching.h"
#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {

std::string to_json(const PublishJob& job) {
  Json json{{"model", job.model},
            {"example", job.example},
            {"threads", job.threads},
            {"timeout_ns", job.timeout.count()},
            {"instance_memory", job.instance_memory.count},
            {"publish_memory", job.publish_memory.count},
            {"batch_rows", job.batch_rows}};
  if (job.function) json["function"] = to_json(*job.function);
  return json.dump();
}

Result<PublishJob> parse_publish_job(std::string_view text) {
  const Json json = TRY(parse_json(text, "publish job"));
  PublishJob job;
  std::uint64_t timeout = static_cast<std::uint64_t>(job.timeout.count());
  std::string function;
  JsonReader reader(json, "publish job", reason::kBadRequest);
  reader.text("function", function);
  reader.text("model", job.model)
      .text("example", job.example)
      .integer("threads", job.threads, 1U, 64U)
      .integer("timeout_ns", timeout, 1, INT64_MAX / 8)
      .integer("instance_memory", job.instance_memory.count, 1, INT64_MAX)
      .integer("publish_memory", job.publish_memory.count, 1, INT64_MAX)
      .integer("batch_rows", job.batch_rows, 1U, kLargestBatch);
  TRY(reader.finish());
  if (!function.empty()) job.function = TRY(parse_function_options(function));
  job.timeout = Duration(timeout);
  return job;
}

}  // namespace mayfly
