#include "cli/provenance_view.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace mayfly {
namespace {

CliJson import_of(const CliJson& provenance) {
  return provenance.value("imported", CliJson::object());
}

}  // namespace

std::string provenance_cell(const CliJson& provenance) {
  if (import_of(provenance).value("unsigned", false)) return "no: unsigned import";
  if (!provenance.value("signed", false)) return "no";
  return provenance.value("revoked", false) ? "key revoked" : "yes";
}

std::string provenance_text(const CliJson& provenance) {
  const CliJson import = import_of(provenance);
  std::string text = "no";
  if (provenance.value("signed", false)) {
    text = fmt::format("with the key {} ({}){}", provenance.value("signer", "?"),
                       provenance.value("key", "").substr(0, 16),
                       provenance.value("revoked", false) ? ", which was revoked" : "");
  }
  if (import.empty()) return text;
  if (!import.value("unsigned", false)) {
    return fmt::format("{}; imported, signed by {} ({})", text, import.value("signer", "?"),
                       import.value("key", "").substr(0, 16));
  }
  text += "; imported although nobody whom the project trusts signed it";
  if (import.contains("refused")) text += ": " + import.value("refused", "");
  return text;
}

}  // namespace mayfly
