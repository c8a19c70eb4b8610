#include "identity/blob_owners.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "base/check.h"
#include "core/caller_reason.h"
#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr const char* kOwnerSchema = R"sql(
CREATE TABLE blob_owner(
  blob BLOB NOT NULL,
  project TEXT NOT NULL,
  size INTEGER NOT NULL,
  used INTEGER NOT NULL,
  PRIMARY KEY(project, blob)
) STRICT, WITHOUT ROWID;
CREATE TABLE upload(
  slot BLOB PRIMARY KEY,
  project TEXT NOT NULL,
  size INTEGER NOT NULL,
  begun INTEGER NOT NULL,
  fresh INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
)sql";

std::span<const std::byte> bytes_of(const Digest& digest) { return digest.bytes; }

Digest digest_in(std::span<const std::byte> bytes) {
  Digest digest;
  CHECK(bytes.size() == digest.bytes.size());
  std::ranges::copy(bytes, digest.bytes.begin());
  return digest;
}

std::int64_t number_of(WallTime time) { return time.time_since_epoch().count(); }

}  // namespace

Result<std::unique_ptr<BlobOwners>> BlobOwners::open(const Path& path, const Clock& clock,
                                                     const Found& found) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  std::unique_ptr<BlobOwners> owners(new BlobOwners(std::move(database), clock));
  Statement query = TRY(
      owners->database_.prepare("look for the table of blobs' owners",
                                "SELECT count(*) FROM sqlite_schema WHERE name = 'blob_owner'"));
  const bool counted = TRY(query.step());
  CHECK(counted);
  const bool known = query.integer(0) > 0;
  query.reset();
  if (!known) TRY(owners->create(found));
  // Nobody goes on with these.
  TRY(owners->database_.execute("forget uploads", "DELETE FROM upload WHERE fresh = 1"));
  return owners;
}

Status BlobOwners::create(const Found& found) {
  Transaction transaction = TRY(Transaction::begin(database_));
  TRY(database_.execute("create the table of blobs' owners", kOwnerSchema));
  for (const auto& [project, blob] : TRY(found())) TRY(insert(project, blob));
  return transaction.commit();
}

Status BlobOwners::insert(std::string_view project, const BlobInfo& blob) {
  Statement statement = TRY(database_.prepare(
      "note a blob's owner",
      "INSERT OR REPLACE INTO blob_owner(blob, project, size, used) VALUES(?1, ?2, ?3, ?4)"));
  statement.bind(bytes_of(blob.digest), project, static_cast<std::int64_t>(blob.size),
                 number_of(clock_.wall_now()));
  return statement.run();
}

Status BlobOwners::add(std::string_view project, const BlobInfo& blob, const Digest& slot) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  TRY(insert(project, blob));
  Statement release = TRY(database_.prepare("end an upload", "DELETE FROM upload WHERE slot = ?1"));
  TRY(release.bind(bytes_of(slot)).run());
  return transaction.commit();
}

Result<bool> BlobOwners::has(std::string_view project, const Digest& blob) {
  const std::scoped_lock lock(mutex_);
  Statement touch = TRY(database_.prepare(
      "look for a blob's owner",
      "UPDATE blob_owner SET used = ?3 WHERE project = ?1 AND blob = ?2 RETURNING 1"));
  touch.bind(project, bytes_of(blob), number_of(clock_.wall_now()));
  const bool own = TRY(touch.step());
  if (own) TRY(touch.run());
  return own;
}

Digest BlobOwners::slot(std::string_view project, const Digest& blob) {
  return sha256(fmt::format("{}/{}", project, to_string(blob)));
}

Digest BlobOwners::fresh_slot() {
  const std::scoped_lock lock(mutex_);
  return sha256(fmt::format("fresh {}", ++fresh_));
}

Result<Bytes> BlobOwners::sum(std::string_view project, const Digest& without) {
  Statement query = TRY(database_.prepare(
      "add up what a project stores",
      "SELECT (SELECT coalesce(sum(size), 0) FROM blob_owner WHERE project = ?1) + "
      "(SELECT coalesce(sum(size), 0) FROM upload WHERE project = ?1 AND slot <> ?2)"));
  query.bind(project, bytes_of(without));
  const bool summed = TRY(query.step());
  CHECK(summed);
  return Bytes{static_cast<std::uint64_t>(query.integer(0))};
}

Result<Bytes> BlobOwners::stored(std::string_view project) {
  const std::scoped_lock lock(mutex_);
  return sum(project, Digest{});
}

Result<Bytes> BlobOwners::reserve(const Upload& upload, Bytes limit) {
  const std::scoped_lock lock(mutex_);
  Bytes granted = upload.size.value_or(Bytes{});
  if (limit != Bytes{}) {
    const Bytes others = TRY(sum(upload.project, upload.slot));
    const Bytes left = others < limit ? limit - others : Bytes{};
    if (left == Bytes{} || granted > left) {
      return refuse(
          reason::kQuotaExceeded,
          fmt::format("stored_bytes: {} of the project's {} are left; delete what it needs no "
                      "longer, and have garbage collected",
                      to_string(left), to_string(limit)));
    }
    if (!upload.size) granted = left;
  }
  Statement upsert =
      TRY(database_.prepare("note an upload",
                            "INSERT OR REPLACE INTO upload(slot, project, size, begun, fresh) "
                            "VALUES(?1, ?2, ?3, ?4, ?5)"));
  upsert.bind(bytes_of(upload.slot), upload.project, static_cast<std::int64_t>(granted.count),
              number_of(clock_.wall_now()),
              std::int64_t{upload.kind == Upload::Kind::Fresh ? 1 : 0});
  TRY(upsert.run());
  const bool unbounded = !upload.size && limit == Bytes{};
  return unbounded ? Bytes{std::numeric_limits<std::uint64_t>::max()} : granted;
}

Status BlobOwners::release(const Digest& slot) {
  const std::scoped_lock lock(mutex_);
  Statement statement =
      TRY(database_.prepare("end an upload", "DELETE FROM upload WHERE slot = ?1"));
  return statement.bind(bytes_of(slot)).run();
}

Status BlobOwners::collect(const Needed& needed, WallTime unused_since, const BlobStore& store) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  Statement forget = TRY(database_.prepare(
      "forget a blob's owner", "DELETE FROM blob_owner WHERE project = ?1 AND blob = ?2"));
  Statement owned =
      TRY(database_.prepare("read blobs' owners", "SELECT project, blob, used FROM blob_owner"));
  std::vector<std::pair<std::string, Digest>> gone;
  while (TRY(owned.step())) {
    const std::string project = owned.text(0);
    const Digest digest = digest_in(owned.blob(1));
    const auto own = needed.find(project);
    const bool unused = owned.integer(2) < number_of(unused_since) &&
                        (own == needed.end() || !own->second.contains(digest));
    if (unused || !TRY(store.find(digest))) gone.emplace_back(project, digest);
  }
  for (const auto& [project, digest] : gone)
    TRY(forget.bind(std::string_view(project), bytes_of(digest)).run());
  TRY(forget_uploads(unused_since, store));
  return transaction.commit();
}

// Those that were dropped because nobody went on with them; one that has just begun has no bytes
// either.
Status BlobOwners::forget_uploads(WallTime begun_before, const BlobStore& store) {
  Statement uploads = TRY(
      database_.prepare("read uploads", "SELECT slot FROM upload WHERE fresh = 0 AND begun < ?1"));
  uploads.bind(number_of(begun_before));
  std::vector<Digest> gone;
  while (TRY(uploads.step())) {
    const Digest slot = digest_in(uploads.blob(0));
    if (TRY(store.partial_size(slot)) == 0) gone.push_back(slot);
  }
  Statement forget = TRY(database_.prepare("end an upload", "DELETE FROM upload WHERE slot = ?1"));
  for (const Digest& slot : gone) TRY(forget.bind(bytes_of(slot)).run());
  return {};
}

}  // namespace mayfly
