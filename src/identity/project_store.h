// The projects of a node and their quotas, in identity.db. A project is there as soon as a key
// names it; what it may take is unlimited until it is said here. Calls block; any thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "identity/quota.h"
#include "store/sqlite.h"

namespace mayfly {

using QuotaTable = std::map<std::string, Quotas, std::less<>>;
using QuotaTableRef = std::shared_ptr<const QuotaTable>;

class ProjectStore {
 public:
  static Result<std::unique_ptr<ProjectStore>> open(const Path& database);

  // conflict: there is one of that name.
  Status create(std::string_view project);
  // Makes the project if need be. `changes` as change_quotas() reads them.
  Result<Quotas> change(std::string_view project, std::string_view changes);
  // Those that were created or have quotas, and the default one; as of the last change.
  QuotaTableRef table() const;

 private:
  explicit ProjectStore(Database database) : database_(std::move(database)) {}
  Status publish();                                              // under mutex_
  Status write(std::string_view project, const Quotas& quotas);  // under mutex_

  mutable std::mutex mutex_;
  Database database_;
  QuotaTableRef table_;
};

}  // namespace mayfly
