#include "core/wire/chunk.h"

#include <span>

#include "core/reason.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

constexpr SizeLimit kChunkLimit{.bytes = 64, .setting = "limits.max_reply"};

Result<std::string> chunk_from(std::string_view text, std::string type = "application/json") {
  return chunk_of({.body = std::as_bytes(std::span(text)), .content_type = std::move(type)},
                  kChunkLimit);
}

}  // namespace

TEST_CASE("a chunk is one line of JSON, as its function wrote it") {
  CHECK(chunk_from(R"({"token":"mäy"})").value() == R"({"token":"mäy"})");
  CHECK(to_event("[1]") == "data: [1]\n\n");
  CHECK(to_error_event("a\nb", "function_error", 500) ==
        "event: error\n"
        "data: {\"error\":\"a\\nb\",\"reason\":\"function_error\",\"status\":500}\n\n");
}

TEST_CASE("the lines of a traceback are an array, and nothing where there are none") {
  CHECK(to_error_event("a", "function_error", 500, "File \"f.py\"\n  1 / 0") ==
        "event: error\n"
        "data: {\"error\":\"a\",\"reason\":\"function_error\",\"status\":500,"
        "\"traceback\":[\"File \\\"f.py\\\"\",\"  1 / 0\"]}\n\n");
  std::string json;
  append_traceback(json, "");
  CHECK(json.empty());
}

TEST_CASE("what would end an event early, or is no JSON text, is a malformed reply") {
  for (const char* text : {"", "1\n\nevent: error", "1\rdata: 2", "\"\xff\""}) {
    CAPTURE(text);
    CHECK(chunk_from(text).error().reason == reason::kBadReply);
  }
  CHECK(chunk_from("1", "image/png").error().reason == reason::kBadReply);
  CHECK(chunk_from(std::string(65, '1')).error().reason == reason::kTooLarge);
}

TEST_CASE("a chunk of the generate extension names its model") {
  CHECK(named_chunk(R"({"text_output":"a"})", "llm", "2") ==
        R"({"model_name":"llm","model_version":"2","text_output":"a"})");
  CHECK(named_chunk("{}", "llm", "2") == R"({"model_name":"llm","model_version":"2"})");
  CHECK(named_chunk("[1,2]", "llm", "2") ==
        R"({"model_name":"llm","model_version":"2","output":[1,2]})");
}

}  // namespace mayfly
