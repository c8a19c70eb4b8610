// A job, followed on the terminal until it is over, and what it made.
#pragma once

#include <string>

#include "base/file.h"
#include "base/result.h"
#include "cli/node_client.h"

namespace mayfly {

std::string job_path(const std::string& id);
// Asks until it is over, with its progress on the terminal; how it ended. A job that failed is an
// Error with its reason. A node that does not answer may be starting again: it is asked for a
// minute.
Result<CliJson> follow_job(NodeClient& node, const std::string& id);
// A file of its result; `into` is there whole or not at all.
Status fetch_job_file(NodeClient& node, const std::string& id, const std::string& name,
                      const Path& into);
// "running, 12,000 rows, 40 %, 12 s left"
std::string job_line(const CliJson& job);

}  // namespace mayfly
