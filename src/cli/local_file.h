// A file of this machine on its way to a node.
#pragma once

#include <cstdint>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "cli/node_client.h"
#include "cli/table.h"

namespace mayfly {

struct LocalFile {
  Path file;
  std::string path;  // what it is called there
  std::uint64_t size = 0;
  std::string sha256{};
};

// Refuses what is no plain file; its digest is not taken yet.
Result<LocalFile> local_file(const Path& file, std::string path);
// Hashed in pieces: nothing is held whole.
Result<std::string> digest_of(const LocalFile& local, ProgressLine& progress);
// Sends what the node lacks of it.
Status upload_blob(NodeClient& node, const LocalFile& file, ProgressLine& progress);

}  // namespace mayfly
