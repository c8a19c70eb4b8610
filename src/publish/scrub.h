// The scrub: once in a while every blob and every compiled folder is hashed again, slowly and at
// idle priority, and what does not have the bytes it must have is moved to quarantine/, where
// nothing looks for it:
//
//   quarantine/blob-DIGEST    its next upload stores it anew
//   quarantine/form-KEY       it is compiled again from the blobs by the next start
//   quarantine/last-scrub     when the last round ended: its time of change
//
// Of one name the latest is kept. Loop thread; hashing happens on a thread of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/cancel.h"
#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "publish/compiled_store.h"
#include "store/blob_store.h"
#include "store/digest.h"

namespace mayfly {

struct Damage {
  enum class Kind : std::uint8_t { Blob, Form };
  Kind kind = Kind::Blob;
  std::string name;  // the blob's digest, or the form's key
  std::string why;
};
std::string_view to_string(Damage::Kind kind);
// What quarantine/ calls it.
std::string quarantined_name(Damage::Kind kind, std::string_view name);

class Scrub {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    const BlobStore& blobs;
    CompiledStore& forms;
    Path compiled;
    Path quarantine;
  };
  struct Options {
    Duration every = std::chrono::hours(24);  // 0: never
    Bytes rate = mib(32);                     // a second; 0: as fast as it goes
  };
  struct Counts {  // since the node started
    std::uint64_t rounds = 0;
    std::uint64_t bytes = 0;
    std::uint64_t damaged_blobs = 0;
    std::uint64_t damaged_forms = 0;
  };
  // Told when something has been moved away.
  using OnDamage = std::function<Task<void>(Damage)>;

  Scrub(Parts parts, Options options, OnDamage on_damage);

  // Round after round, the first when one is due, until `stop`.
  Task<void> keep_on(std::optional<Gate::Hold> hold, CancelToken stop);
  // One round. Cancelled; otherwise an error is one of the folders, and what was found was told.
  Task<Status> round(CancelToken stop);

  Counts counts() const;

 private:
  Result<std::vector<Digest>> list_blobs() const;
  Result<std::vector<std::string>> list_forms() const;
  Result<std::optional<Damage>> check_blob(const Digest& digest);
  Result<std::optional<Damage>> check_form(const std::string& key);
  Result<std::optional<Damage>> quarantine(Damage damage, const Path& from);
  Status pace(std::uint64_t bytes);  // on the thread that hashes
  Duration until_due() const;
  template <typename Check>
  Task<Status> look_at(Check check);

  const Parts parts_;
  const Options options_;
  const OnDamage on_damage_;
  Counts counts_;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::atomic<bool> stopping_ = false;
  Pool pool_;
};

}  // namespace mayfly
