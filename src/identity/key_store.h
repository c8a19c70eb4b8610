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

// The keys that were not revoked. A value: what is changed is a copy.
class KeyTable {
 public:
  struct Entry {
    Digest digest;
    PrincipalRef principal;
    std::optional<WallTime> expires{};
  };

  explicit KeyTable(NodeSecret secret) : secret_(secret) {}

  void add(const std::string& id, Entry entry);
  void remove(std::string_view id);
  // A key that matches nothing: it was revoked, or its row cannot be read.
  void add_dead() { closed_ = true; }

  // Whether there ever was a key. From then on every request needs one: revoking the last does not
  // open the node again.
  bool closed() const { return closed_; }
  // unauthenticated: not a key of this node, expired, or revoked; neither the message nor the time
  // it takes says which.
  Result<PrincipalRef> check(std::string_view text, WallTime now) const;

 private:
  NodeSecret secret_;
  std::map<std::string, Entry, std::less<>> keys_;
  bool closed_ = false;
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

  static constexpr std::uint32_t kMostKeys = 1000;  // of a project, that are neither revoked nor
                                                    // expired

  // `clock` and `rng` outlive the store. An error if there are keys and the secret is missing: a
  // new one would match none of them, and nobody would know why.
  static Result<std::unique_ptr<KeyStore>> open(const Path& database, const Path& secret,
                                                const Clock& clock, Rng& rng);

  // invalid_setting: an expiry that has passed. conflict: the project has kMostKeys already.
  Result<Made> create(const Wish& wish, std::string_view who);
  // Of one project; empty: of all.
  Result<std::vector<KeyRow>> list(std::string_view project);
  // not_found: the project has no such key, or it was revoked already. Empty: of any project; the
  // one that the key was of.
  Result<std::string> revoke(std::string_view project, std::string_view id);
  Status mark_used(const std::map<std::string, WallTime, std::less<>>& used);

  // As of the last change; any thread, which waits for no disk.
  KeyTableRef table() const;

 private:
  KeyStore(Database database, NodeSecret secret, const Clock& clock, Rng& rng)
      : database_(std::move(database)), secret_(secret), clock_(clock), rng_(rng) {}
  Status load();
  Status check_room(std::string_view project);  // under mutex_
  void publish(KeyTable table);

  std::mutex mutex_;  // of the database; held while it writes
  Database database_;
  NodeSecret secret_;
  const Clock& clock_;
  Rng& rng_;
  mutable std::mutex table_mutex_;  // held for as long as a pointer is copied
  KeyTableRef table_;               // guarded by table_mutex_; changed under mutex_ only
};

}  // namespace mayfly
