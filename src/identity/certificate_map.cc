#include "identity/certificate_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "core/json_reader.h"
#include "core/project.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxCertificates = 10'000;
constexpr std::string_view kCommonName = "CN:";
constexpr std::array<std::string_view, 5> kKinds = {kCommonName, "DNS:", "URI:", "email:", "IP:"};

std::unexpected<Error> bad_entry(std::string_view why) {
  return refuse(reason::kInvalidSetting, std::string(why));
}

Status check_subject(std::string_view subject, std::string_view what) {
  const auto is_of = [&](std::string_view kind) {
    return subject.starts_with(kind) && subject.size() > kind.size();
  };
  if (std::ranges::any_of(kKinds, is_of)) return {};
  return bad_entry(fmt::format(
      "{}: 'subject' is one name of the certificate, as in CN:edge-1, DNS:edge-1.example or "
      "URI:spiffe://example/edge-1, not '{}'",
      what, subject));
}

Result<PrincipalRef> read_entry_of(const Json& json, std::string_view what, std::string& subject) {
  JsonReader reader(json, what, reason::kInvalidSetting);
  std::string project;
  std::string scopes;
  std::string name;
  reader.text("subject", subject).text("project", project);
  TRY(reader.text("scopes", scopes).text("name", name).finish());
  TRY(check_subject(subject, what));
  TRY(check_project(project));
  auto allowed = Scopes::parse(scopes);
  if (!allowed) return std::unexpected(std::move(allowed).error().in(what));
  return std::make_shared<const Principal>(
      Principal{.means = Principal::Means::Certificate,
                .project = project,
                .name = fmt::format("{} (certificate)", name.empty() ? subject : name),
                .scopes = *std::move(allowed)});
}

}  // namespace

Result<CertificateMap> CertificateMap::parse(std::string_view text) {
  const Json json = TRY(parse_json(text, "certificates"));
  JsonReader reader(json, "certificates", reason::kInvalidSetting);
  const Json* list = reader.value("certificates");
  TRY(reader.finish());
  if (list == nullptr || !list->is_array() || list->empty() || list->size() > kMaxCertificates) {
    return bad_entry(
        fmt::format("'certificates' is a list of 1 to {} certificates", kMaxCertificates));
  }
  CertificateMap map;
  for (const Json& one : *list) {
    Entry entry;
    const std::string what = fmt::format("certificates[{}]", map.entries_.size());
    entry.who = TRY(read_entry_of(one, what, entry.subject));
    map.entries_.push_back(std::move(entry));
  }
  return map;
}

PrincipalRef CertificateMap::find(std::string_view common_name,
                                  std::span<const std::string> names) const {
  for (const Entry& entry : entries_) {
    const std::string_view subject = entry.subject;
    const bool is_it = subject.starts_with(kCommonName)
                           ? subject.substr(kCommonName.size()) == common_name
                           : std::ranges::find(names, entry.subject) != names.end();
    if (is_it) return entry.who;
  }
  return nullptr;
}

}  // namespace mayfly
