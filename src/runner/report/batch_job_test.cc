#include "runner/report/batch_job.h"

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("the joining of very many parts is asked for in few bytes") {
  for (const std::uint32_t parts : {1U, 5000U, kMaxBatchParts}) {
    const MergeJob job{.parts = parts, .output_format = TableFormat::Parquet};
    const std::string request = to_json(job);
    CHECK(request.size() < 100);
    CHECK(parse_merge_job(request).value() == job);
  }
}

TEST_CASE("the joining of nothing, or of more than there are names for, is refused") {
  for (const char* request : {R"({"merge": {"output_format": "csv"}})",
                              R"({"merge": {"parts": 0, "output_format": "csv"}})",
                              R"({"merge": {"parts": 1000000, "output_format": "csv"}})",
                              R"({"merge": {"parts": ["part-000001"], "output_format": "csv"}})"}) {
    CAPTURE(request);
    CHECK(parse_merge_job(request).error().reason == reason::kBadRequest);
  }
}

TEST_CASE("the names of parts are in the order of their numbers") {
  CHECK(part_name(1) == "part-000001");
  CHECK(part_name(2) < part_name(10));
  CHECK(errors_name(999) < errors_name(1000));
  CHECK(part_name(kMaxBatchParts).size() == part_name(1).size());
}
