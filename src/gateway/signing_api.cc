#include "gateway/signing_api.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "core/json_reader.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "gateway/body.h"
#include "gateway/control_api.h"
#include "gateway/guard.h"
#include "lineage/training_record.h"
#include "serving/version_folder.h"

namespace mayfly {
namespace {

constexpr std::size_t kPieceOfExport = std::size_t{256} * 1024;

Json signing_key_json(const SigningKeyRow& row) {
  Json json{{"name", row.name},
            {"id", row.id},
            {"kind", row.own ? "own" : "trusted"},
            {"public_key", row.pem},
            {"created", format_time(row.created)},
            {"created_by", row.created_by},
            {"revoked", row.revoked ? Json(format_time(*row.revoked)) : Json(nullptr)}};
  if (row.revoked) json["revoked_by"] = row.revoked_by;
  return json;
}

Json file_json(const ArtifactFile& file) {
  return {{"path", file.path}, {"sha256", file.sha256}, {"size", file.size}};
}

Result<std::string> read_record(const BlobStore& blobs, const VersionTraining& training) {
  const Fd file = TRY(blobs.open(training.record));
  return read_all_fd(file.get(), kMaxTrainingRecord);
}

}  // namespace

Task<Result<Response>> SigningApi::call(Exchange& exchange, const Route& route) {
  switch (route.endpoint) {
    case Endpoint::CreateSigningKey:
      co_return co_await create(exchange, route);
    case Endpoint::TrustSigningKey:
      co_return co_await trust(exchange, route);
    case Endpoint::RevokeSigningKey:
      co_return co_await revoke(exchange, route);
    case Endpoint::ExportVersion:
      co_return co_await export_version(route);
    default:
      co_return co_await list(route);
  }
}

Task<Result<Response>> SigningApi::list(const Route& route) {
  CO_TRY(const std::vector<SigningKeyRow> rows,
         co_await parts_.pool.run([&] { return parts_.keys.list(route.caller->project); }));
  Json keys = Json::array();
  for (const SigningKeyRow& row : rows) keys.push_back(signing_key_json(row));
  // The one that signs: the newest of its own that stands.
  for (auto key = keys.rbegin(); key != keys.rend(); ++key) {
    if ((*key)["kind"] != "own" || !(*key)["revoked"].is_null()) continue;
    (*key)["signs"] = true;
    break;
  }
  for (Json& key : keys)
    if (!key.contains("signs")) key["signs"] = false;
  co_return json_response({{"keys", std::move(keys)}});
}

Task<Result<Response>> SigningApi::create(Exchange& exchange, const Route& route) {
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(const Json json, parse_json(text, "body"));
  std::string name;
  JsonReader reader(json, "body", reason::kInvalidSetting);
  reader.text("name", name);
  if (name.empty() && json.contains("name")) reader.error("name", "is empty");
  CO_TRY_STATUS(reader.finish());
  const std::string who = author_of(exchange, route);
  CO_TRY(const SigningKeyRow made, co_await parts_.pool.run([&] {
    return parts_.keys.create(route.caller->project, name, who);
  }));
  LOG(info, "signing key made", {"project", route.caller->project}, {"key", made.name},
      {"who", who});
  co_return json_response(signing_key_json(made));
}

Task<Result<Response>> SigningApi::trust(Exchange& exchange, const Route& route) {
  CO_TRY(BodyReader reader,
         BodyReader::open(exchange, {PublicKey::kMaxText}, "4KiB for a public key"));
  CO_TRY(const std::string pem, co_await reader.read_rest());
  const std::string who = author_of(exchange, route);
  CO_TRY(const SigningKeyRow trusted, co_await parts_.pool.run([&] {
    return parts_.keys.trust(
        {.project = route.caller->project, .name = route.version, .pem = pem, .who = who});
  }));
  LOG(info, "signing key trusted", {"project", route.caller->project}, {"key", trusted.name},
      {"who", who});
  co_return json_response(signing_key_json(trusted));
}

Task<Result<Response>> SigningApi::revoke(const Exchange& exchange, const Route& route) {
  const std::string who = author_of(exchange, route);
  CO_TRY(const SigningKeyRow revoked, co_await parts_.pool.run([&] {
    return parts_.keys.revoke(route.caller->project, route.version, who);
  }));
  LOG(info, "signing key revoked", {"project", route.caller->project}, {"key", revoked.name},
      {"who", who});
  co_return json_response(signing_key_json(revoked));
}

Task<Result<Response>> SigningApi::export_version(const Route& route) {
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(route.name, route.version));
  const FunctionName name = resolved.function->name;
  const VersionNumber number = resolved.version->number;
  const Digest digest = resolved.version->content->manifest;
  CO_TRY(const auto manifest,
         co_await parts_.pool.run([&] { return parts_.registry.manifest(digest); }));
  CO_TRY(const Provenance provenance,
         co_await parts_.pool.run([&] { return parts_.registry.provenance(name, number); }));
  CO_TRY(const auto training,
         co_await parts_.pool.run([&] { return parts_.registry.training(name, number); }));
  const std::string local(local_name(name.str()));
  Json files = Json::array();
  for (const ArtifactFile& file : version_folder(local, *manifest).files)
    if (file.path != kFolderManifest) files.push_back(file_json(file));
  Json texts{{kFolderManifest, to_json(*manifest)},
             {kFolderReadme, folder_readme(local, number.value, *manifest, provenance.key)}};
  if (training) {
    CO_TRY(texts[std::string(kFolderTraining)],
           co_await parts_.pool.run([&] { return read_record(parts_.blobs, *training); }));
  }
  if (!provenance.signature.empty()) texts[std::string(kFolderSignature)] = provenance.signature;
  co_return json_response({{"function", local},
                           {"version", number.value},
                           {"key", provenance.key},
                           {"files", std::move(files)},
                           {"texts", std::move(texts)}});
}

Task<Status> SigningApi::send_file(Exchange& exchange, const Route& route,
                                   std::string_view cors_origin) {
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(route.name, route.version));
  const Digest digest = resolved.version->content->manifest;
  CO_TRY(const auto manifest,
         co_await parts_.pool.run([&] { return parts_.registry.manifest(digest); }));
  const std::string path = exchange.head().query("path").value_or("");
  const auto found = std::ranges::find(manifest->files, path, &ArtifactFile::path);
  if (found == manifest->files.end()) {
    co_return refuse(reason::kNotFound,
                     fmt::format("the version has no file '{}'", path.substr(0, 200)));
  }
  CO_TRY(const Fd file,
         co_await parts_.pool.run([&] { return parts_.blobs.open(*parse_digest(found->sha256)); }));
  Headers headers{{"Content-Type", "application/octet-stream"}};
  allow_origin(headers, cors_origin);
  CO_TRY_STATUS(co_await exchange.start(200, std::move(headers)));
  std::string piece(kPieceOfExport, '\0');
  for (std::uint64_t at = 0; at < found->size;) {
    const auto got = co_await parts_.pool.run(
        [&] { return ::pread(file.get(), piece.data(), piece.size(), static_cast<off_t>(at)); });
    // Its client sees a reply that is cut off.
    if (got <= 0) co_return Status{};
    if (!co_await exchange.write(std::string_view(piece).substr(0, static_cast<std::size_t>(got))))
      co_return Status{};
    at += static_cast<std::uint64_t>(got);
  }
  (void)co_await exchange.finish();
  co_return Status{};
}

}  // namespace mayfly
