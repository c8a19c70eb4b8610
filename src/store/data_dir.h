// The data folder of a node:
//
//   DIR/format          "mayfly-data N": the version of everything below
//   DIR/lock            flock(2)ed by the server that owns the folder; holds its pid
//   DIR/registry.db     functions, versions, settings (SQLite)
//   DIR/identity.db     keys, secrets and the audit log (SQLite)
//   DIR/identity.secret what the digests of keys are keyed with; mode 0600
//   DIR/secrets.key     what secrets are sealed with (identity/secret_store.h); mode 0600
//   DIR/node.key        what the node signs its own records with (publish/form_seal.h); mode 0600
//   DIR/quarantine/     what the scrub found to be damaged (publish/scrub.h)
//   DIR/events.db       accepted events and what became of them (store/work_queue.h)
//   DIR/events/         their payloads and results, content-addressed
//   DIR/jobs.db         jobs: what is asked and how far they are (jobs/job_store.h)
//   DIR/jobs/           their inputs, checkpoints and results, and what datasets are made of,
//                       content-addressed
//   DIR/datasets.db     datasets and their snapshots (data/dataset_store.h)
//   DIR/schedules.db    what is sent when (events/schedule_store.h); payloads are among the events'
//   DIR/blobs/          content-addressed files (store/blob_store.h)
//   DIR/compiled/KEY/   compiled artifacts; KEY begins with the artifact's digest
//   DIR/ledger/         invocation records (meter/ledger.h)
//   DIR/tmp/ DIR/run/   nothing in them survives a start
//
// One owner at a time; the lock ends with the process, however it ends.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"

namespace mayfly {

inline constexpr std::uint32_t kDataFormat = 4;

// Brings a folder from version `from` to `from + 1`. It may be cut off anywhere and run again, so
// it must be idempotent.
struct Migration {
  std::uint32_t from = 0;
  std::string_view purpose;
  Status (*run)(const Path& root) = nullptr;
};

// What this build can serve. Tests pass formats of their own.
struct DataFormat {
  std::uint32_t version = kDataFormat;
  std::span<const Migration> migrations;  // oldest first, without gaps, the last ends at `version`
};
DataFormat current_data_format();

class DataDir {
 public:
  // Creates the folder (mode 0700) or opens an existing one, migrating it if it is older.
  // FailedPrecondition: another server holds it (its pid is named), it is newer than this build or
  // too old for it, or it holds something else than Mayfly's data.
  static Result<DataDir> open(const Path& root, const DataFormat& format = current_data_format());

  const Path& root() const { return root_; }
  Path registry_db() const { return root_ / "registry.db"; }
  Path identity_db() const { return root_ / "identity.db"; }
  Path identity_secret() const { return root_ / "identity.secret"; }
  Path secrets_key() const { return root_ / "secrets.key"; }
  Path node_key() const { return root_ / "node.key"; }
  Path quarantine() const { return root_ / "quarantine"; }
  Path events_db() const { return root_ / "events.db"; }
  Path schedules_db() const { return root_ / "schedules.db"; }
  Path events() const { return root_ / "events"; }
  Path jobs_db() const { return root_ / "jobs.db"; }
  Path jobs() const { return root_ / "jobs"; }
  Path datasets_db() const { return root_ / "datasets.db"; }
  Path admin_socket() const { return run() / "admin.sock"; }
  Path blobs() const { return root_ / "blobs"; }
  Path compiled() const { return root_ / "compiled"; }
  Path environments() const { return root_ / "environments"; }  // packages of Python functions
  Path ledger() const { return root_ / "ledger"; }
  Path tmp() const { return root_ / "tmp"; }
  Path run() const { return root_ / "run"; }

 private:
  DataDir(Path root, Fd lock) : root_(std::move(root)), lock_(std::move(lock)) {}
  Path root_;
  Fd lock_;
};

// The text of DIR/format, and back; an error for anything else.
std::string data_format_text(std::uint32_t version);
Result<std::uint32_t> parse_data_format(std::string_view text);

}  // namespace mayfly
