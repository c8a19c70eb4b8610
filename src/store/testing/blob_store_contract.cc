#include "store/testing/blob_store_contract.h"

#include <array>

#include "core/reason.h"
#include "store/testing/fake_blob_store.h"

#include <doctest/doctest.h>

namespace mayfly::blob_contract {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

Digest put(BlobStore& store, std::string_view text) {
  auto writer = store.create();
  REQUIRE(writer.has_value());
  REQUIRE((*writer)->append(bytes_of(text)).has_value());
  const auto info = (*writer)->commit();
  REQUIRE(info.has_value());
  CHECK(info->size == text.size());
  return info->digest;
}

std::string get(const BlobStore& store, const Digest& digest) {
  const auto file = store.open(digest);
  REQUIRE(file.has_value());
  return read_all_fd(file->get(), kSmallFile).value();
}

std::vector<Digest> all(const BlobStore& store) {
  std::vector<Digest> digests;
  REQUIRE(store
              .for_each([&](const BlobInfo& info) -> Status {
                digests.push_back(info.digest);
                return {};
              })
              .has_value());
  return digests;
}

namespace {

void check_whole_blobs(BlobStore& store) {
  const Digest digest = put(store, "hello");
  CHECK(to_string(digest) == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
  CHECK(get(store, digest) == "hello");
  CHECK(store.find(digest).value()->size == 5);
  CHECK(put(store, "hello") == digest);
  CHECK(put(store, "") == sha256(""));
  CHECK(all(store).size() == 2);
  CHECK(store.remove(digest).has_value());
  CHECK(store.remove(digest).has_value());
  CHECK_FALSE(store.find(digest).value().has_value());
  CHECK(store.open(digest).error().code == Code::NotFound);
  {
    auto abandoned = store.create();
    REQUIRE((*abandoned)->append(bytes_of("half")).has_value());
  }
  CHECK(all(store).size() == 1);
}

void check_uploads(BlobStore& store) {
  const Digest expected = sha256("one two three");
  CHECK(store.partial_size(expected).value() == 0);
  {
    auto first = store.resume(expected);
    REQUIRE(first.has_value());
    REQUIRE((*first)->append(bytes_of("one ")).has_value());
    CHECK(store.resume(expected).error().reason == reason::kConflict);
    CHECK(store.drop_partial(expected).error().reason == reason::kConflict);
  }
  CHECK(store.partial_size(expected).value() == 4);
  CHECK_FALSE(store.find(expected).value().has_value());
  auto second = store.resume(expected);
  REQUIRE(second.has_value());
  CHECK((*second)->offset() == 4);
  REQUIRE((*second)->append(bytes_of("two three")).has_value());
  CHECK((*second)->commit().value().digest == expected);
  CHECK(get(store, expected) == "one two three");
  CHECK(store.partial_size(expected).value() == 0);
  CHECK(store.resume(expected).has_value());  // the upload is over: the name is free again
}

void check_slots(BlobStore& store) {
  const Digest expected = sha256("for two");
  const Digest other = sha256("somebody else's place");
  REQUIRE(store.resume(expected).value()->append(bytes_of("for ")).has_value());
  auto theirs = store.resume(expected, other).value();
  CHECK(theirs->offset() == 0);
  CHECK(store.resume(expected).value()->offset() == 4);
  REQUIRE(theirs->append(bytes_of("for two")).has_value());
  CHECK(theirs->commit().value().digest == expected);
  CHECK(store.partial_size(other).value() == 0);
  CHECK(store.partial_size(expected).value() == 4);
  auto wrong = store.resume(expected, other).value();
  REQUIRE(wrong->append(bytes_of("other bytes")).has_value());
  CHECK(wrong->commit().error().reason == reason::kDigestMismatch);
}

void check_unknown(BlobStore& store) {
  const Digest slot = sha256("a place");
  REQUIRE(store.resume(std::nullopt, slot).value()->append(bytes_of("nobody ")).has_value());
  CHECK(store.partial_size(slot).value() == 7);
  {
    auto upload = store.resume(std::nullopt, slot).value();
    CHECK(upload->offset() == 7);
    CHECK(store.resume(std::nullopt, slot).error().reason == reason::kConflict);
    REQUIRE(upload->append(bytes_of("knows")).has_value());
    CHECK(upload->commit().value().digest == sha256("nobody knows"));
  }
  CHECK(store.partial_size(slot).value() == 0);
  CHECK(store.resume(std::nullopt, slot).value()->offset() == 0);
}

void check_mismatch(BlobStore& store) {
  const Digest expected = sha256("promised");
  auto upload = store.resume(expected);
  REQUIRE((*upload)->append(bytes_of("something else")).has_value());
  const auto refused = (*upload)->commit();
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == Code::DataLoss);
  CHECK(refused.error().reason == reason::kDigestMismatch);
  CHECK(store.partial_size(expected).value() == 0);
  CHECK(all(store).empty());
  CHECK(store.resume(expected).value()->offset() == 0);
}

void check_dropped_partials(BlobStore& store) {
  const Digest expected = sha256("never finished");
  {
    REQUIRE(store.resume(expected).value()->append(bytes_of("never")).has_value());
  }
  int partials = 0;
  REQUIRE(store
              .for_each_partial([&](const BlobInfo& info) -> Status {
                CHECK(info.digest == expected);
                CHECK(info.size == 5);
                ++partials;
                return {};
              })
              .has_value());
  CHECK(partials == 1);
  CHECK(store.drop_partial(expected).has_value());
  CHECK(store.drop_partial(expected).has_value());
  CHECK(store.partial_size(expected).value() == 0);
}

void check_files(BlobStore& store) {
  const Digest digest = put(store, "as a file");
  {
    const auto file = store.file(digest);
    REQUIRE(file.has_value());
    CHECK(read_file(file->path).value() == "as a file");
  }
  CHECK(store.file(sha256("never there")).error().code == Code::NotFound);
}

void check_adoption(BlobStore& store) {
  const SystemClock clock;
  FakeBlobStore other(clock);
  const Digest digest = put(other, "theirs");
  CHECK(store.adopt(digest, other).value().size == 6);
  CHECK(store.adopt(digest, other).has_value());
  CHECK(other.remove(digest).has_value());
  CHECK(get(store, digest) == "theirs");
  CHECK(store.adopt(sha256("nobody's"), other).error().code == Code::NotFound);
}

void check_large(BlobStore& store) {
  std::string text(std::size_t{13} << 20, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i >> 7);
  const Digest digest = sha256(text);
  const auto upload = store.resume(digest);
  REQUIRE(upload.has_value());
  for (std::size_t at = 0; at < text.size(); at += 1 << 20) {
    REQUIRE((*upload)->append(bytes_of(std::string_view(text).substr(at, 1 << 20))).has_value());
  }
  CHECK((*upload)->commit().value().size == text.size());
  const auto file = store.open(digest);
  REQUIRE(file.has_value());
  CHECK(sha256(read_all_fd(file->get(), text.size() + 1).value()) == digest);
}

constexpr auto kPromises = std::to_array<Promise>({
    {"a committed blob can be read under its digest, and only whole", check_whole_blobs},
    {"an upload continues where it stopped, one uploader at a time", check_uploads},
    {"an upload is resumed in its own slot only", check_slots},
    {"an upload whose digest nobody knows is resumed in its slot", check_unknown},
    {"an upload of other bytes than promised is refused and dropped", check_mismatch},
    {"unfinished uploads can be listed and dropped", check_dropped_partials},
    {"a blob has a file", check_files},
    {"a blob of another store can be adopted", check_adoption},
    {"a blob may be large", check_large},
});

}  // namespace

std::span<const Promise> promises() { return kPromises; }

}  // namespace mayfly::blob_contract
