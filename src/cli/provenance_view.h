// Who vouches for a version, in words.
#pragma once

#include <string>

#include "cli/node_client.h"

namespace mayfly {

std::string provenance_cell(
    const CliJson& provenance);  // a few words: "yes", "no: unsigned import"
std::string provenance_text(const CliJson& provenance);  // a line

}  // namespace mayfly
