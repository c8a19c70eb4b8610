// Backup and restore of a node's data: registry, blobs, datasets and ledger. Compiled forms are
// left out: they are made again.
//
// A backup is taken while the node runs. The registry is copied as one state (SQLite's online
// backup), then the blobs that this state names, then the ledger; garbage collection waits. Blobs
// are hard links where the file system allows it. The folder, readable without Mayfly:
//
//   DIR/registry.db
//   DIR/blobs/sha256/ab/abcdef…
//   DIR/datasets.db
//   DIR/jobs/sha256/ab/…        the columns of datasets; files of jobs are left out
//   DIR/ledger/…
//   DIR/MANIFEST       written last: a backup without it is not complete
//
//   mayfly-backup 1
//   mayfly-data 1
//   <sha256> <size> <path>     one line a file
//   end <number of files>
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"
#include "registry/pins.h"
#include "registry/registry.h"
#include "store/blob_store.h"
#include "store/data_dir.h"
#include "store/digest.h"

namespace mayfly {

struct BackupFile {
  std::string path;  // relative
  std::uint64_t size = 0;
  Digest digest;
  bool operator==(const BackupFile&) const = default;
};

struct BackupManifest {
  std::uint32_t data_format = kDataFormat;
  std::vector<BackupFile> files;
  Bytes size() const;
  bool operator==(const BackupManifest&) const = default;
};

std::string to_text(const BackupManifest& manifest);
// data_loss for anything that to_text did not write; paths never leave the folder.
Result<BackupManifest> parse_backup_manifest(std::string_view text);

// Another database of the node, with the blobs that it names.
struct BackupPart {
  std::string database;  // "datasets.db"
  std::string folder;    // where the store of its blobs has its root: "jobs"
  const BlobStore& blobs;
  // Copies it as one state. What it returns are the blobs that this state names, and what keeps
  // them there while it lives.
  struct Copied {
    std::vector<Digest> named;
    std::shared_ptr<void> hold;
  };
  std::function<Result<Copied>(const Path& to)> copy;
};

struct BackupSource {  // all outlive the call
  const DataDir& data;
  Registry& registry;
  const BlobStore& blobs;
  Pins& pins;
  const std::vector<BackupPart>& parts;
};

// `to` is new or empty. conflict while garbage is collected. Durable when it returns.
Result<BackupManifest> back_up(const BackupSource& source, const Path& to);

// Copies a backup into a new or empty folder, verifying every byte; nothing is left usable there
// unless all of it is right. data_loss names the file that is damaged.
Result<BackupManifest> restore_backup(const Path& from, const Path& to);

}  // namespace mayfly
