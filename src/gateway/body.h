// A request's body as a handler wants it: decompressed, bounded, whole or straight into place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "async/pool.h"
#include "async/task.h"
#include "base/bytes.h"
#include "base/result.h"
#include "net/decompress.h"
#include "net/exchange.h"
#include "serving/body_budget.h"

namespace mayfly {

class BodyReader {
 public:
  // `limit` bounds the decompressed body; `setting` is named when it is exceeded. Fails for an
  // unknown Content-Encoding and for a Content-Length past the limit, before anything is read.
  static Result<BodyReader> open(Exchange& exchange, Bytes limit, std::string_view setting);

  // For bodies that may be large: they are counted, and what unpacks into much is unpacked on a
  // pool. node_busy: the budget has no room for what is announced; later, when more comes than was.
  struct Shared {  // all outlive me
    Pool& pool;
    BodyBudget& budget;
  };
  Status share(Shared shared);
  // Whether it is known to be large before anything is read.
  bool is_large() const { return announced().value_or(0) > BodyBudget::kUncounted.count; }

  // 0 is the end. Uncompressed bodies come straight from the socket into `into`.
  Task<Result<std::size_t>> read_some(std::span<std::byte> into);
  // An error when the body ends earlier.
  Task<Status> read_exactly(std::span<std::byte> into);
  // Up to `bytes`; fewer only at the end.
  Task<Result<std::string>> read_text(std::uint64_t bytes);
  // Everything that is left.
  Task<Result<std::string>> read_rest();
  // The same, if it needs no waiting.
  std::optional<std::string> take_rest();
  // Known without waiting; false may also mean that it is not known yet.
  bool at_end() const { return announced() == taken_; }
  // An error when anything is left.
  Task<Status> expect_end();

  std::uint64_t taken() const { return taken_; }  // decompressed bytes handed out
  // The length of an uncompressed body whose length was announced.
  std::optional<std::uint64_t> announced() const;

 private:
  BodyReader(Exchange& exchange, Bytes limit, std::string_view setting)
      : exchange_(&exchange), limit_(limit), setting_(setting) {}
  Task<Result<std::size_t>> read_compressed(std::span<std::byte> into);
  Task<Result<Decompressor::Progress>> unpack(std::span<std::byte> into);
  Status take(std::size_t bytes);
  Status count(std::uint64_t bytes);
  Error too_large() const;

  Exchange* exchange_;
  Bytes limit_;
  std::string_view setting_;
  std::uint64_t taken_ = 0;
  Pool* pool_ = nullptr;
  std::optional<BodyBudget::Hold> held_;
  std::optional<Decompressor> decompressor_;
  std::vector<std::byte> compressed_;
  std::span<const std::byte> pending_;
  bool input_ended_ = false;
};

}  // namespace mayfly
