// The JSON parser's buffers, kept from request to request. Serves one caller at a time: keep one
// per thread. What a document beyond 1 MiB made it allocate goes before the next one.
#pragma once

#include <memory>

namespace mayfly {

class JsonParser {
 public:
  JsonParser();
  ~JsonParser();
  JsonParser(JsonParser&&) noexcept;
  JsonParser& operator=(JsonParser&&) noexcept;

  struct Buffers;  // json_document.h
  Buffers& buffers() { return *buffers_; }

 private:
  std::unique_ptr<Buffers> buffers_;
};

}  // namespace mayfly
