// Figures of the API's measurements as cells of a table. One that was not measured is missing
// there, and "-" here.
#pragma once

#include <string>

#include "cli/node_client.h"

namespace mayfly {

std::string micros_cell(const CliJson& measured, const char* key);
std::string bytes_cell(const CliJson& measured, const char* key);

}  // namespace mayfly
