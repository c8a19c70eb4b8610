#include "identity/blob_owners.h"

#include <fmt/format.h>

#include <span>
#include <utility>

#include "base/check.h"
#include "core/project.h"

namespace mayfly {
namespace {

constexpr const char* kOwnerSchema = R"sql(
CREATE TABLE IF NOT EXISTS blob_owner(
  blob BLOB NOT NULL,
  project TEXT NOT NULL,
  PRIMARY KEY(blob, project)
) STRICT, WITHOUT ROWID;
)sql";

}  // namespace

Result<std::unique_ptr<BlobOwners>> BlobOwners::open(const Path& path) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the table of blobs' owners", kOwnerSchema));
  return std::unique_ptr<BlobOwners>(new BlobOwners(std::move(database)));
}

Status BlobOwners::add(std::string_view project, const Digest& blob) {
  const std::scoped_lock lock(mutex_);
  Statement insert = TRY(database_.prepare(
      "note a blob's owner", "INSERT OR IGNORE INTO blob_owner(blob, project) VALUES(?1, ?2)"));
  insert.bind(std::span<const std::byte>(blob.bytes), project);
  return insert.run();
}

Result<bool> BlobOwners::has(std::string_view project, const Digest& blob) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare(
      "look for a blob's owner",
      "SELECT count(*), coalesce(sum(project = ?2), 0) FROM blob_owner WHERE blob = ?1"));
  query.bind(std::span<const std::byte>(blob.bytes), project);
  const bool counted = TRY(query.step());
  CHECK(counted);  // sums have a row always
  return query.integer(1) > 0 || (query.integer(0) == 0 && project == kDefaultProject);
}

Digest BlobOwners::slot(std::string_view project, const Digest& blob) {
  if (project == kDefaultProject) return blob;
  return sha256(fmt::format("{}/{}", project, to_string(blob)));
}

}  // namespace mayfly
