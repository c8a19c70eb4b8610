// The verbs that run here instead of calling a node.
#pragma once

#include "app/node.h"
#include "cli/verbs.h"

namespace mayfly {

void add_serve_verb(CLI::App& app, CliContext& context, WrapEventStores wrap = std::identity());
void add_restore_verb(CLI::App& app, CliContext& context);
void add_doctor_verb(CLI::App& app, CliContext& context);

}  // namespace mayfly
