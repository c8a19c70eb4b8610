#include "identity/project_store.h"

#include <fmt/format.h>

#include <utility>

#include "core/project.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr const char* kProjectSchema = R"sql(
CREATE TABLE IF NOT EXISTS project(
  name TEXT PRIMARY KEY,
  quotas TEXT NOT NULL
) STRICT, WITHOUT ROWID;
)sql";

}  // namespace

Result<std::unique_ptr<ProjectStore>> ProjectStore::open(const Path& path) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the table of projects", kProjectSchema));
  std::unique_ptr<ProjectStore> store(new ProjectStore(std::move(database)));
  const std::scoped_lock lock(store->mutex_);
  TRY(store->publish());
  return store;
}

Status ProjectStore::publish() {
  Statement query = TRY(database_.prepare("read projects", "SELECT name, quotas FROM project"));
  auto table = std::make_shared<QuotaTable>();
  table->emplace(kDefaultProject, Quotas{});
  while (TRY(query.step()))
    table->insert_or_assign(query.text(0), TRY(change_quotas({}, query.text(1))));
  table_ = std::move(table);
  return {};
}

Status ProjectStore::write(std::string_view project, const Quotas& quotas) {
  Statement upsert = TRY(database_.prepare(
      "keep a project's quotas", "INSERT OR REPLACE INTO project(name, quotas) VALUES(?1, ?2)"));
  upsert.bind(project, std::string_view(to_json(quotas)));
  TRY(upsert.run());
  return publish();
}

Status ProjectStore::create(std::string_view project) {
  TRY(check_project(project));
  const std::scoped_lock lock(mutex_);
  if (table_->contains(project))
    return refuse(reason::kConflict, fmt::format("there is a project '{}'", project));
  return write(project, Quotas{});
}

Result<Quotas> ProjectStore::change(std::string_view project, std::string_view changes) {
  TRY(check_project(project));
  const std::scoped_lock lock(mutex_);
  const auto known = table_->find(project);
  const Quotas quotas =
      TRY(change_quotas(known == table_->end() ? Quotas{} : known->second, changes));
  TRY(write(project, quotas));
  return quotas;
}

QuotaTableRef ProjectStore::table() const {
  const std::scoped_lock lock(mutex_);
  return table_;
}

}  // namespace mayfly
