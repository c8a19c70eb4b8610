// The keys of a node, in identity.db. Calls block: they belong on a pool, from any thread. What the
// loop needs to check a key is a KeyTable, an immutable snapshot.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "base/rng.h"
#include "identity/api_key.h"
#include "identity/principal.h"
#include "store/sqlite.h"

namespace mayfly {

struct KeyRow {
  std::string id;
  std::string name;  // for people
  std::string project;
  std::string scopes;
  WallTime created{};
  std::string created_by;
  std::optional<WallTime> expires{};
  std::optional<WallTime> last_used{};
  std::optional<WallTime> revoked{};
};

class KeyTable {
 public:
  struct Entry {
    Digest digest;
    PrincipalRef principal;
    std::optional<WallTime> expires{};
    bool revoked = false;
  };

  KeyTable(NodeSecret secret, std::map<std::string, Entry, std::less<>> keys)
      : secret_(secret), keys_(std::move(keys)) {}

  // Whether there ever was a key. From then on every request needs one: revoking the last does not
  // open the node again.
  bool closed() const { return !keys_.empty(); }
  // unauthenticated: not a key of this node, expired, or revoked; the message does not say which.
  Result<PrincipalRef> check(std::string_view text, WallTime now) const;

 private:
  NodeSecret secret_;
  std::map<std::string, Entry, std::less<>> keys_;
};

using KeyTableRef = std::shared_ptr<const KeyTable>;

class KeyStore {
 public:
  struct Wish {
    std::string name;
    std::string project;
    Scopes scopes;
    std::optional<WallTime> expires{};
  };
  struct Made {
    KeyRow row;
    std::string text;  // nowhere else, and never again
  };

  // `clock` and `rng` outlive the store.
  static Result<std::unique_ptr<KeyStore>> open(const Path& database, const Path& secret,
                                                const Clock& clock, Rng& rng);

  // invalid_setting: an expiry that has passed.
  Result<Made> create(const Wish& wish, std::string_view who);
  // Of one project; empty: of all.
  Result<std::vector<KeyRow>> list(std::string_view project);
  // not_found: the project has no such key, or it was revoked already. Empty: of any project.
  Status revoke(std::string_view project, std::string_view id);
  Status mark_used(const std::map<std::string, WallTime, std::less<>>& used);

  KeyTableRef table() const;  // as of the last change; any thread

 private:
  KeyStore(Database database, NodeSecret secret, const Clock& clock, Rng& rng)
      : database_(std::move(database)), secret_(secret), clock_(clock), rng_(rng) {}
  Status publish();  // under mutex_

  mutable std::mutex mutex_;
  Database database_;
  NodeSecret secret_;
  const Clock& clock_;
  Rng& rng_;
  KeyTableRef table_;
};

}  // namespace mayfly
