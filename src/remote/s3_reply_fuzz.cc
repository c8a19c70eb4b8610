// What an object store answers is foreign bytes: each reader ends with a value that keeps its
// bounds, or with an error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "remote/s3_reply.h"

using namespace mayfly;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto page = parse_s3_page(text)) {
    for (const S3Object& object : page->objects) CHECK(!object.key.empty());
  }
  (void)parse_s3_uploads(text);
  if (const auto id = parse_s3_upload_id(text)) CHECK(!id->empty());
  (void)check_s3_completion(text);
  const S3Refusal refusal = parse_s3_refusal(text);
  CHECK(refusal.code.size() <= 64 && refusal.message.size() <= 300);
  (void)parse_s3_time(text);
  return 0;
}
