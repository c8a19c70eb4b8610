#include "signing/model_signature.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "core/printable.h"
#include "core/reason.h"
#include "core/signing_reason.h"

namespace mayfly {
namespace {

constexpr std::string_view kBundleType = "application/vnd.dev.sigstore.bundle.v0.3+json";
constexpr std::string_view kPayloadType = "application/vnd.in-toto+json";
constexpr std::string_view kStatementType = "https://in-toto.io/Statement/v1";
constexpr std::string_view kPredicateType = "https://model_signing/signature/v1.0";
constexpr std::size_t kShownPath = 200;

std::unexpected<Error> bad_signature(std::string_view why) {
  return refuse(reason::kInvalidSignature, fmt::format("signature: {}", why));
}

// Null where it is missing or of another kind.
const Json* member(const Json* json, const char* key, Json::value_t kind) {
  if (json == nullptr || !json->is_object()) return nullptr;
  const auto found = json->find(key);
  return found != json->end() && found->type() == kind ? &*found : nullptr;
}
const Json* object_in(const Json* json, const char* key) {
  return member(json, key, Json::value_t::object);
}
const Json* list_in(const Json* json, const char* key) {
  return member(json, key, Json::value_t::array);
}
std::string text_in_signature(const Json* json, const char* key) {
  const Json* text = member(json, key, Json::value_t::string);
  return text == nullptr ? std::string() : text->get<std::string>();
}

// SHA-256 over the digests' bytes.
std::string root_digest(const std::vector<ArtifactFile>& files) {
  std::string digests;
  for (const ArtifactFile& file : files) {
    for (std::size_t i = 0; i + 1 < file.sha256.size(); i += 2)
      digests += static_cast<char>(std::stoi(file.sha256.substr(i, 2), nullptr, 16));
  }
  return sha256_hex(digests);
}

bool is_digest_text(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// In the statement's order, which the root digest follows.
Result<std::vector<ArtifactFile>> read_resources(const Json& list) {
  std::vector<ArtifactFile> files;
  files.reserve(list.size());
  for (const Json& one : list) {
    ArtifactFile file{.path = text_in_signature(&one, "name"),
                      .sha256 = text_in_signature(&one, "digest")};
    if (auto sound = check_artifact_path(file.path); !sound) {
      return bad_signature(
          fmt::format("'{}' is no path inside a folder", printable(file.path, kShownPath)));
    }
    if (text_in_signature(&one, "algorithm") != "sha256" || !is_digest_text(file.sha256)) {
      return bad_signature(
          fmt::format("'{}' has no SHA-256 digest; other hashes are not taken here",
                      printable(file.path, kShownPath)));
    }
    files.push_back(std::move(file));
  }
  return files;
}

Status check_serialization(const Json* serialization) {
  if (text_in_signature(serialization, "method") != "files")
    return bad_signature("only signatures over whole files are taken, not over shards of them");
  if (text_in_signature(serialization, "hash_type") != "sha256")
    return bad_signature("only signatures over SHA-256 digests are taken");
  return {};
}

Result<SignedFolder> read_statement(std::string_view payload) {
  const auto parsed = parse_json(payload, "signature");
  if (!parsed) return bad_signature("its statement is no JSON");
  const Json* statement = &*parsed;
  if (text_in_signature(statement, "_type") != kStatementType ||
      text_in_signature(statement, "predicateType") != kPredicateType) {
    return bad_signature(fmt::format("its statement is not of {}", kPredicateType));
  }
  const Json* subjects = list_in(statement, "subject");
  if (subjects == nullptr || subjects->size() != 1)
    return bad_signature("its statement must have one subject");
  const Json* predicate = object_in(statement, "predicate");
  const Json* serialization = object_in(predicate, "serialization");
  const Json* resources = list_in(predicate, "resources");
  if (serialization == nullptr || resources == nullptr)
    return bad_signature("its statement lists no files");
  TRY(check_serialization(serialization));
  SignedFolder folder{.name = text_in_signature(&subjects->front(), "name"),
                      .files = TRY(read_resources(*resources)),
                      .ignored = {}};
  if (text_in_signature(object_in(&subjects->front(), "digest"), "sha256") !=
      root_digest(folder.files))
    return bad_signature("its root digest is not that of the files it lists");
  if (const Json* ignored = list_in(serialization, "ignore_paths")) {
    for (const Json& path : *ignored)
      if (path.is_string()) folder.ignored.push_back(path.get<std::string>());
  }
  std::ranges::sort(folder.files, {}, &ArtifactFile::path);
  if (std::ranges::adjacent_find(folder.files, {}, &ArtifactFile::path) != folder.files.end())
    return bad_signature("it lists a file twice");
  return folder;
}

}  // namespace

std::string sign_folder(const SignedFolder& folder, const PrivateKey& key) {
  Json resources = Json::array();
  std::vector<ArtifactFile> files = folder.files;
  std::ranges::sort(files, {}, &ArtifactFile::path);
  for (const ArtifactFile& file : files)
    resources.push_back({{"name", file.path}, {"algorithm", "sha256"}, {"digest", file.sha256}});
  const Json subject{{"name", folder.name}, {"digest", {{"sha256", root_digest(files)}}}};
  const Json statement{{"_type", kStatementType},
                       {"subject", Json::array({subject})},
                       {"predicateType", kPredicateType},
                       {"predicate",
                        {{"serialization",
                          {{"method", "files"},
                           {"hash_type", "sha256"},
                           {"allow_symlinks", false},
                           {"ignore_paths", folder.ignored}}},
                         {"resources", std::move(resources)}}}};
  return Json{{"mediaType", kBundleType},
              {"verificationMaterial",
               {{"publicKey", {{"hint", key.public_key().id()}}}, {"tlogEntries", Json::array()}}},
              {"dsseEnvelope", Envelope::seal(kPayloadType, statement.dump(), key).json()}}
      .dump();
}

Result<ModelSignature> ModelSignature::parse(std::string_view text) {
  if (text.size() > kMaxSignature) return bad_signature("it is too long");
  const auto bundle = parse_json(text, "signature");
  if (!bundle) return bad_signature("it is no JSON, so no sigstore bundle");
  if (text_in_signature(&*bundle, "mediaType") != kBundleType)
    return bad_signature(fmt::format("its mediaType is not {}", kBundleType));
  const Json* material = object_in(&*bundle, "verificationMaterial");
  const Json* key = object_in(material, "publicKey");
  if (key == nullptr) {
    return bad_signature(
        "it was not made with a bare key; certificates and keyless signatures are not taken here");
  }
  const Json* envelope = object_in(&*bundle, "dsseEnvelope");
  if (envelope == nullptr) return bad_signature("it has no DSSE envelope");
  ModelSignature signature;
  signature.hint_ = text_in_signature(key, "hint");
  signature.envelope_ = TRY(Envelope::parse(*envelope));
  return signature;
}

Result<SignedFolder> ModelSignature::open(const PublicKey& key) const {
  return read_statement(TRY(envelope_.open(kPayloadType, key)));
}

Status check_files(const SignedFolder& folder, const std::vector<ArtifactFile>& files) {
  std::map<std::string_view, std::string_view> present;
  for (const ArtifactFile& file : files) present.emplace(file.path, file.sha256);
  for (const ArtifactFile& file : folder.files) {
    const auto found = present.find(file.path);
    if (found == present.end())
      return bad_signature(fmt::format("'{}' was signed and is missing", file.path));
    if (found->second != file.sha256) {
      return bad_signature(fmt::format("'{}' does not have the bytes that were signed", file.path));
    }
    present.erase(found);
  }
  if (present.empty()) return {};
  return bad_signature(
      fmt::format("'{}' is none of the files that were signed", present.begin()->first));
}

}  // namespace mayfly
