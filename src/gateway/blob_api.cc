#include "gateway/blob_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/reason.h"
#include "core/units.h"
#include "gateway/body.h"

namespace mayfly {
namespace {

constexpr std::size_t kPiece = 1024 * 1024;
// From the question whether a blob is here to the deploy that names it: the rest is uploaded
// meanwhile.
constexpr Duration kLease = std::chrono::hours(1);

Result<Digest> digest_of(std::string_view text) {
  if (const auto digest = parse_digest(text)) return *digest;
  return refuse(reason::kBadRequest,
                "a blob's name is the 64 lower-case hexadecimal digits of its SHA-256");
}

Result<std::uint64_t> number_header(const RequestHead& head, std::string_view name) {
  const auto text = head.headers.find(name);
  std::uint64_t value = 0;
  if (text) {
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error == std::errc() && end == text->data() + text->size()) return value;
  }
  return refuse(reason::kBadRequest,
                fmt::format("the header {} must hold a whole number of bytes", name));
}

Response blob_response(int status, const Digest& digest, std::uint64_t size) {
  return {.status = status,
          .headers = {{"Content-Type", "application/json"}},
          .body = fmt::format(R"({{"sha256":"{}","size":{}}})", to_string(digest), size)};
}

Status check_offset(std::uint64_t stands, std::uint64_t sent) {
  if (stands == sent) return {};
  return refuse(
      reason::kConflict,
      fmt::format("the upload stands at {}, not at {}: ask again with HEAD", stands, sent));
}

}  // namespace

Task<Result<Response>> BlobApi::state(std::string_view project, std::string_view name) {
  CO_TRY(const Digest digest, digest_of(name));
  struct State {
    std::optional<BlobInfo> whole;
    std::uint64_t partial = 0;
  };
  CO_TRY(const State state, co_await pool_.run([&]() -> Result<State> {
    State found;
    const bool own = TRY(owners_.has(project, digest));
    if (own) found.whole = TRY(blobs_.find(digest));
    // Who hears that it is here does not upload it, so it stays until the deploy had its chance. A
    // collection may have been quicker than the lease: only what is there afterwards will stay.
    if (found.whole) {
      pins_.lease(digest, kLease);
      found.whole = TRY(blobs_.find(digest));
    }
    if (!found.whole) found.partial = TRY(blobs_.partial_size(BlobOwners::slot(project, digest)));
    return found;
  }));
  if (state.whole) co_return blob_response(200, digest, state.whole->size);
  co_return Response{
      .status = 404, .headers = {{"Upload-Offset", std::to_string(state.partial)}}, .body = ""};
}

Task<Status> BlobApi::receive(Exchange& exchange, BlobWriter& writer, std::uint64_t limit) {
  CO_TRY(BodyReader body, BodyReader::open(exchange, max_upload_, "limits.max_upload"));
  std::vector<std::byte> piece(kPiece);
  while (true) {
    std::size_t filled = 0;
    while (filled < piece.size()) {
      const auto got = co_await body.read_some(std::span(piece).subspan(filled));
      if (!got) {
        // What came before the connection broke is kept for the next try.
        const std::size_t kept = std::min<std::uint64_t>(filled, limit - writer.offset());
        co_await pool_.run([&] { (void)writer.append(std::span(piece).first(kept)); });
        co_return std::unexpected(got.error());
      }
      if (*got == 0) break;
      filled += *got;
    }
    if (filled == 0) co_return Status{};
    if (writer.offset() + filled > limit) {
      co_return refuse(
          reason::kTooLarge,
          fmt::format("the upload is longer than the {} bytes announced or allowed", limit));
    }
    CO_TRY_STATUS(
        co_await pool_.run([&] { return writer.append(std::span(piece).first(filled)); }));
  }
}

// The bytes are there before anybody is said to have them.
Task<Result<BlobInfo>> BlobApi::commit(BlobWriter& writer, std::string_view project,
                                       const Digest& slot) {
  co_return co_await pool_.run([&]() -> Result<BlobInfo> {
    const auto blob = writer.commit();
    if (blob) {
      TRY(owners_.add(project, *blob, slot));
    } else if (TRY(blobs_.partial_size(slot)) == 0) {
      TRY(owners_.release(slot));  // what came is dropped
    }
    return blob;
  });
}

Task<Result<Bytes>> BlobApi::reserve(BlobOwners::Upload upload) {
  const Bytes limit = quotas_.stored_limit(upload.project);
  co_return co_await pool_.run([&] { return owners_.reserve(upload, limit); });
}

Task<Result<Response>> BlobApi::append(Exchange& exchange, std::string_view project,
                                       std::string_view name) {
  CO_TRY(const Digest digest, digest_of(name));
  CO_TRY(const std::uint64_t offset, number_header(exchange.head(), "Upload-Offset"));
  CO_TRY(const std::uint64_t length, number_header(exchange.head(), "Upload-Length"));
  if (length < offset) {
    co_return refuse(reason::kBadRequest,
                     fmt::format("Upload-Length {} is less than Upload-Offset {}", length, offset));
  }
  if (length > max_upload_.count) {
    co_return refuse(reason::kTooLarge, fmt::format("{} bytes are more than limits.max_upload ({})",
                                                    length, to_string(max_upload_)));
  }
  const Digest slot = BlobOwners::slot(project, digest);
  // What is refused leaves no file behind.
  CO_TRY(const std::uint64_t stands, co_await pool_.run([&] { return blobs_.partial_size(slot); }));
  CO_TRY_STATUS(check_offset(stands, offset));
  CO_TRY_STATUS(co_await reserve({.project = project, .slot = slot, .size = Bytes{length}}));
  CO_TRY(const std::unique_ptr<BlobWriter> writer,
         co_await pool_.run([&] { return blobs_.resume(digest, slot); }));
  CO_TRY_STATUS(check_offset(writer->offset(), offset));
  CO_TRY_STATUS(co_await receive(exchange, *writer, length));
  if (writer->offset() < length) {
    co_return Response{.status = 202,
                       .headers = {{"Upload-Offset", std::to_string(writer->offset())}},
                       .body = ""};
  }
  CO_TRY(const BlobInfo blob, co_await commit(*writer, project, slot));
  co_return blob_response(200, blob.digest, blob.size);
}

Task<Result<Response>> BlobApi::create(Exchange& exchange, std::string_view project) {
  const RequestHead& head = exchange.head();
  std::optional<Bytes> size;
  if (head.content_length && !head.headers.find("Content-Encoding"))
    size = Bytes{*head.content_length};
  const Digest slot = owners_.fresh_slot();
  CO_TRY(const Bytes room, co_await reserve({.project = project,
                                             .slot = slot,
                                             .size = size,
                                             .kind = BlobOwners::Upload::Kind::Fresh}));
  const auto blob = co_await take(exchange, project, slot, room);
  if (!blob) {
    CO_TRY_STATUS(co_await pool_.run([&] { return owners_.release(slot); }));
    co_return std::unexpected(blob.error());
  }
  co_return blob_response(201, blob->digest, blob->size);
}

Task<Result<BlobInfo>> BlobApi::take(Exchange& exchange, std::string_view project,
                                     const Digest& slot, Bytes room) {
  CO_TRY(const std::unique_ptr<BlobWriter> writer,
         co_await pool_.run([&] { return blobs_.create(); }));
  CO_TRY_STATUS(co_await receive(exchange, *writer, std::min(room, max_upload_).count));
  co_return co_await commit(*writer, project, slot);
}

}  // namespace mayfly
