// Signatures that strangers send: read, and opened with a key that did not make them; their
// statements as if it had.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "signing/base64.h"
#include "signing/model_signature.h"

namespace {

using namespace mayfly;

const PrivateKey& fuzz_key() {
  static const std::array<std::byte, PrivateKey::kBytes> kOnes = [] {
    std::array<std::byte, PrivateKey::kBytes> bytes{};
    bytes.fill(std::byte{1});
    return bytes;
  }();
  static const PrivateKey kKey = PrivateKey::create(kOnes).value();
  return kKey;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const PrivateKey& key = fuzz_key();
  if (const auto signature = ModelSignature::parse(text)) {
    if (const auto folder = signature->open(key.public_key()))
      std::ignore = check_files(*folder, folder->files);
  }
  Json bundle{{"mediaType", "application/vnd.dev.sigstore.bundle.v0.3+json"},
              {"verificationMaterial", {{"publicKey", Json::object()}}}};
  bundle["dsseEnvelope"] = Envelope::seal("application/vnd.in-toto+json", text, key).json();
  const auto sealed = ModelSignature::parse(bundle.dump());
  CHECK(sealed.has_value());
  if (const auto folder = sealed->open(key.public_key())) {
    CHECK(check_files(*folder, folder->files));
    for (const ArtifactFile& file : folder->files) CHECK(check_artifact_path(file.path));
  }
  if (const auto bytes = decode_base64(text)) CHECK(encode_base64(*bytes) == text);
  if (size < 4096) std::ignore = PublicKey::parse(text);
  return 0;
}
