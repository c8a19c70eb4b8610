#include "cli/figures.h"

#include <nlohmann/json.hpp>

#include "cli/table.h"

namespace mayfly {

std::string micros_cell(const CliJson& measured, const char* key) {
  return measured.contains(key) ? human_micros(measured.value(key, 0.0)) : "-";
}

std::string bytes_cell(const CliJson& measured, const char* key) {
  return measured.contains(key) ? human_bytes(measured.value(key, 0ULL)) : "-";
}

}  // namespace mayfly
