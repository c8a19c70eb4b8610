#include "gateway/body.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr std::size_t kCompressedPiece = 64 * 1024;
constexpr std::size_t kTextPiece = 64 * 1024;
constexpr std::size_t kUnpackedOnLoop = 256 * 1024;

}  // namespace

Result<BodyReader> BodyReader::open(Exchange& exchange, Bytes limit, std::string_view setting) {
  BodyReader reader(exchange, limit, setting);
  const RequestHead& head = exchange.head();
  if (head.content_length.value_or(0) > limit.count) return std::unexpected(reader.too_large());
  const auto header = head.headers.find("Content-Encoding");
  if (!header) return reader;
  auto encoding = parse_content_encoding(*header);
  if (!encoding) return refuse(reason::kUnsupportedMedia, std::move(encoding).error().message);
  if (*encoding) {
    reader.decompressor_.emplace(**encoding, limit);
    reader.compressed_.resize(kCompressedPiece);
  }
  return reader;
}

std::optional<std::uint64_t> BodyReader::announced() const {
  return decompressor_ ? std::nullopt : exchange_->head().content_length;
}

Error BodyReader::too_large() const {
  return refuse(reason::kTooLarge, fmt::format("the body is larger than {}; the limit is {}",
                                               to_string(limit_), setting_))
      .error();
}

Status BodyReader::share(Shared shared) {
  pool_ = &shared.pool;
  held_.emplace(shared.budget);
  return count(announced().value_or(0));
}

Status BodyReader::count(std::uint64_t bytes) {
  if (!held_ || bytes <= BodyBudget::kUncounted.count || held_->grow_to(Bytes{bytes})) return {};
  return refuse(reason::kNodeBusy,
                "the node holds as many bytes of request bodies as limits.body_memory allows");
}

Status BodyReader::take(std::size_t bytes) {
  taken_ += bytes;
  if (taken_ > limit_.count) return std::unexpected(too_large());
  return count(taken_);
}

Task<Result<std::size_t>> BodyReader::read_some(std::span<std::byte> into) {
  if (decompressor_) co_return co_await read_compressed(into);
  CO_TRY(const std::size_t got, co_await exchange_->read_some(into));
  CO_TRY_STATUS(take(got));
  co_return got;
}

// 64 KiB may unpack into 64 MiB: that much is no work for the loop.
Task<Result<Decompressor::Progress>> BodyReader::unpack(std::span<std::byte> into) {
  const auto decode = [&] { return decompressor_->decode(pending_, into); };
  if (pool_ == nullptr || into.size() <= kUnpackedOnLoop) co_return decode();
  co_return co_await pool_->run(decode);
}

Task<Result<std::size_t>> BodyReader::read_compressed(std::span<std::byte> into) {
  while (true) {
    auto progress = co_await unpack(into);
    if (!progress) {
      if (progress.error().code == Code::ResourceExhausted) co_return std::unexpected(too_large());
      co_return refuse(reason::kBadRequest,
                       fmt::format("the compressed body is corrupt: {}", progress.error().message));
    }
    pending_ = pending_.subspan(progress->consumed);
    if (progress->produced > 0) {
      CO_TRY_STATUS(take(progress->produced));
      co_return progress->produced;
    }
    if (input_ended_) {
      if (decompressor_->done()) co_return std::size_t{0};
      co_return refuse(reason::kBadRequest, "the compressed body ends early");
    }
    if (!pending_.empty()) continue;
    CO_TRY(const std::size_t got, co_await exchange_->read_some(compressed_));
    input_ended_ = got == 0;
    pending_ = std::span<const std::byte>(compressed_).first(got);
  }
}

Task<Status> BodyReader::read_exactly(std::span<std::byte> into) {
  while (!into.empty()) {
    CO_TRY(const std::size_t got, co_await read_some(into));
    if (got == 0) {
      co_return refuse(reason::kBadRequest,
                       fmt::format("the body ends {} bytes early", into.size()));
    }
    into = into.subspan(got);
  }
  co_return Status{};
}

Task<Result<std::string>> BodyReader::read_text(std::uint64_t bytes) {
  std::string text;
  while (text.size() < bytes) {
    // Grown piece by piece: memory follows the bytes that came, not the number in a header.
    const std::size_t begin = text.size();
    const std::size_t room = std::min<std::uint64_t>(bytes - begin, std::max(begin, kTextPiece));
    text.resize(begin + room);
    CO_TRY(const std::size_t got,
           co_await read_some(std::as_writable_bytes(std::span(text).subspan(begin))));
    text.resize(begin + got);
    if (got == 0) break;
  }
  co_return text;
}

Task<Result<std::string>> BodyReader::read_rest() {
  const std::optional<std::uint64_t> length = announced();
  co_return co_await read_text(length ? *length - taken_ : limit_.count + 1 - taken_);
}

std::optional<std::string> BodyReader::take_rest() {
  if (decompressor_ || !announced()) return std::nullopt;
  std::optional<std::string> text = exchange_->take_body();
  if (text) taken_ += text->size();
  return text;
}

Task<Status> BodyReader::expect_end() {
  if (at_end()) co_return Status{};
  std::byte extra{};
  CO_TRY(const std::size_t got, co_await read_some({&extra, 1}));
  if (got > 0) co_return refuse(reason::kBadRequest, "the body goes on after its last tensor");
  co_return Status{};
}

}  // namespace mayfly
