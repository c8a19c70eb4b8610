// The rollout of a version that a training made, from the terminal's side.
#pragma once

#include <cstdint>
#include <string>

#include "cli/node_client.h"

namespace mayfly {

// Where it stands: {"version", "state", "why", "step"}, of a describe of the function's rollout.
// state: promoted, rolled_back, aborted, superseded, ended (its traffic was moved by hand,
// or the history does not say how), not_started; running; held: it waits for a person.
CliJson rollout_of_version(const CliJson& about, std::uint64_t version);

// Waits until it has ended, or is held for good; says meanwhile how far it is.
Result<CliJson> follow_rollout(NodeClient& node, const std::string& name, std::uint64_t version);

// 0 where it serves, or nobody wanted it to: docs/cli.md.
int exit_of_rollout(const CliJson& rollout);

}  // namespace mayfly
