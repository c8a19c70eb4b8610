#include "remote/blob_origin.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

namespace mayfly {
namespace {

constexpr std::string_view kHead = "mayfly-blobs 1";
constexpr std::string_view kMoving = "moving";
constexpr std::string_view kThere = "there";
constexpr std::size_t kIdDigits = 32;
constexpr std::size_t kLongest = 4096;

Path origin_path(const Path& root) { return root / "origin"; }

bool is_id(std::string_view text) {
  return text.size() == kIdDigits && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string fresh_id(Rng& rng) { return fmt::format("{:016x}{:016x}", rng.next(), rng.next()); }

}  // namespace

std::string to_text(const BlobOrigin& origin) {
  return fmt::format("{}\n{}\n{}\n{}\n", kHead, origin.address, origin.id,
                     origin.there ? kThere : kMoving);
}

Result<BlobOrigin> parse_blob_origin(std::string_view text) {
  std::vector<std::string_view> lines;
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  const bool right = lines.size() == 4 && text.empty() && lines[0] == kHead &&
                     lines[1].starts_with("s3://") && is_id(lines[2]) &&
                     (lines[3] == kThere || lines[3] == kMoving);
  if (!right) return fail(Code::DataLoss, "it does not say where the blobs are");
  return BlobOrigin{
      .address = std::string(lines[1]), .id = std::string(lines[2]), .there = lines[3] == kThere};
}

Result<std::optional<BlobOrigin>> read_blob_origin(const Path& root) {
  const auto text = read_file(origin_path(root), kLongest);
  if (!text && text.error().code == Code::NotFound) return std::nullopt;
  if (!text) return std::unexpected(text.error());
  auto origin = parse_blob_origin(*text);
  if (!origin) return std::unexpected(std::move(origin).error().in(origin_path(root).native()));
  return *std::move(origin);
}

Status write_blob_origin(const Path& root, const BlobOrigin& origin) {
  return write_file_durably(origin_path(root), to_text(origin));
}

Status check_blobs_are_here(const Path& root) {
  const auto origin = TRY(read_blob_origin(root));
  if (!origin) return {};
  if (origin->there) {
    return fail(Code::FailedPrecondition,
                fmt::format("the blobs of {} are in {} and only some of them here: name that in "
                            "store.s3; to have them on this disk again, restore a backup",
                            root.native(), origin->address));
  }
  if (::unlink(origin_path(root).c_str()) != 0) return fail_errno(origin_path(root).native());
  return {};
}

Result<BlobOrigin> begin_origin(const Path& root, const std::string& address, Rng& rng) {
  const auto known = TRY(read_blob_origin(root));
  if (known && known->address == address) return *known;
  if (known && known->there) {
    return fail(Code::FailedPrecondition,
                fmt::format("the blobs of {} are in {}, not in {}: copy the objects there, then "
                            "write the new address into {}",
                            root.native(), known->address, address, origin_path(root).native()));
  }
  BlobOrigin origin{.address = address, .id = known ? known->id : fresh_id(rng)};
  TRY(write_blob_origin(root, origin));
  return origin;
}

Status claim_prefix(S3Client& client, const std::string& prefix, const std::string& id) {
  const std::string key = prefix + "owner";
  auto owner = TRY(client.get_small(key, kLongest));
  if (!owner) {
    TRY(client.put(key, id));
    owner = TRY(client.get_small(key, kLongest));
  }
  if (owner == id) return {};
  return fail(Code::FailedPrecondition,
              fmt::format("s3://{}/{} holds the blobs of another data folder: give each node a "
                          "prefix of its own in store.s3. If that node is gone for good, remove "
                          "the object {}",
                          client.place().bucket(), prefix, key));
}

}  // namespace mayfly
