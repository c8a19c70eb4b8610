// The node's own signed record of a compiled folder: what its bytes were when they were checked,
// and which files hold them. A start compares identities (inode, size, time of change) and hashes
// nothing; the scrub (publish/scrub.h) hashes.
//
//   compiled/KEY/seal.json   an envelope (signing/envelope.h) of the node's key around
//   {"format": 1, "form": KEY,
//    "files": [{"path", "sha256", "size", "inode", "modified"}, …],    compiled.json among them
//    "folders": [{"path", "inode", "modified"}, …]}                    below KEY/, so that nothing
//                                                                      is added to one
//
// Whoever can write to the folder but does not have the node's key can neither change a file nor
// put another in its place. Blocking: for pools. Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/manifest.h"
#include "signing/signing_key.h"
#include "store/digest.h"

namespace mayfly {

struct FileIdentity {
  std::uint64_t size = 0;  // of folders 0
  std::uint64_t inode = 0;
  std::int64_t modified = 0;  // ns since 1970
  bool operator==(const FileIdentity&) const = default;
};

struct SealedEntry {
  std::string path;    // relative to the folder
  std::string sha256;  // empty: a folder
  FileIdentity identity;
  bool operator==(const SealedEntry&) const = default;
};

struct FormSeal {
  std::string form;
  std::vector<SealedEntry> entries;
};
std::string to_json(const FormSeal& seal);
// data_loss for anything but what to_json() makes.
Result<FormSeal> parse_form_seal(std::string_view json);

class FormSeals {
 public:
  explicit FormSeals(PrivateKey key) : key_(std::move(key)) {}

  // Into `folder`, which will be called `form`, over the files, whose digests are right.
  Status write(const std::string& form, const Path& folder,
               const std::vector<ArtifactFile>& files) const;
  // The record of compiled/FORM. DataLoss: it is not the node's, or of another form. A record that
  // was found right once is not verified again as long as its bytes stay.
  Result<FormSeal> read(const std::string& form, const Path& folder);
  // That the files are those that were sealed. DataLoss names the first that is not.
  static Status check(const FormSeal& seal, const Path& folder);

 private:
  bool knows(const std::string& form, const Digest& text);
  void remember(const std::string& form, const Digest& text);

  const PrivateKey key_;
  std::mutex mutex_;
  std::unordered_map<std::string, Digest> known_;  // guarded by mutex_
};

}  // namespace mayfly
