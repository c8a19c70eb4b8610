#include <fmt/format.h>

#include <functional>

#include "core/reason.h"
#include "core/signing_reason.h"
#include "signing/base64.h"
#include "signing/model_signature.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

PrivateKey key_of(unsigned seed) {
  std::array<std::byte, PrivateKey::kBytes> bytes{};
  bytes.back() = static_cast<std::byte>(seed);
  return PrivateKey::create(bytes).value();
}

SignedFolder example() {
  return {.name = "fraud",
          .files = {{.path = "model/model.onnx", .sha256 = sha256_hex("weights")},
                    {.path = "manifest.json", .sha256 = sha256_hex("{}")}},
          .ignored = {"README.md"}};
}

void check_refused(const Status& status, std::string_view words) {
  REQUIRE_FALSE(status.has_value());
  CAPTURE(status.error().message);
  CHECK(status.error().reason == reason::kInvalidSignature);
  CHECK(status.error().message.contains(words));
}

// Read and opened with the key it was signed with.
Status opened(const std::string& bundle, const PrivateKey& key) {
  const ModelSignature signature = TRY(ModelSignature::parse(bundle));
  TRY(signature.open(key.public_key()));
  return {};
}

// The example, with its statement or bundle changed by `edit` and signed as if that were right.
std::string with_statement(const std::function<void(Json&)>& edit) {
  const PrivateKey key = key_of(1);
  Json bundle = Json::parse(sign_folder(example(), key));
  Json statement =
      Json::parse(*decode_base64(bundle["dsseEnvelope"]["payload"].get<std::string>()));
  edit(statement);
  bundle["dsseEnvelope"] =
      Envelope::seal("application/vnd.in-toto+json", statement.dump(), key).json();
  return bundle.dump();
}
std::string with_bundle(const std::function<void(Json&)>& edit) {
  Json bundle = Json::parse(sign_folder(example(), key_of(1)));
  edit(bundle);
  return bundle.dump();
}

}  // namespace

TEST_CASE("base64 has one text for the same bytes") {
  for (const auto& [bytes, text] : {std::pair{"", ""},
                                    {"f", "Zg=="},
                                    {"fo", "Zm8="},
                                    {"foo", "Zm9v"},
                                    {"foobar", "Zm9vYmFy"}}) {
    CHECK(encode_base64(bytes) == text);
    CHECK(decode_base64(text) == bytes);
  }
  for (const char* wrong :
       {"Zg", "Zg=", "Zh==", "Zm9v\n", " Zm9v", "Zm9v====", "Z===", "Zm-_", "===="})
    CHECK_FALSE(decode_base64(wrong).has_value());
}

TEST_CASE("a key is what its number makes it, and called by its public half") {
  // The base point of the curve: 1 × G.
  const PublicKey one = key_of(1).public_key();
  CHECK(one.pem() ==
        "-----BEGIN PUBLIC KEY-----\n"
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n"
        "6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n"
        "-----END PUBLIC KEY-----\n");
  CHECK(one.id() == sha256_hex(one.pem()));
  CHECK(PublicKey::parse(one.pem()).value().id() == one.id());
  CHECK(PublicKey::parse("# mine\r\n" + one.pem()).value().id() == one.id());

  std::array<std::byte, PrivateKey::kBytes> none{};
  CHECK_FALSE(PrivateKey::create(none).has_value());
  none.fill(std::byte{0xff});
  CHECK_FALSE(PrivateKey::create(none).has_value());
}

TEST_CASE("only sound public keys of P-256 are taken") {
  const char* p384 =
      "-----BEGIN PUBLIC KEY-----\n"
      "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEqofKIr6LBTeOscce8yCtdG4dO2KLp5uY\n"
      "WfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3NhfeSpYmLG9dnpi/kpLcKfj0Hb0omhR8\n"
      "6doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f\n"
      "-----END PUBLIC KEY-----\n";
  std::string off_curve = key_of(1).public_key().pem();
  off_curve.replace(off_curve.find("9R9Q"), 4, "9R9A");
  for (const std::string& wrong :
       {std::string(), std::string("key"), std::string(p384), off_curve, std::string(10000, '-')}) {
    const auto key = PublicKey::parse(wrong);
    REQUIRE_FALSE(key.has_value());
    CHECK(key.error().reason == reason::kInvalidSetting);
  }
}

TEST_CASE("what was signed is read back, and only with its key") {
  const std::string bundle = sign_folder(example(), key_of(1));
  const ModelSignature signature = ModelSignature::parse(bundle).value();
  CHECK(signature.key_hint() == key_of(1).public_key().id());
  const SignedFolder folder = signature.open(key_of(1).public_key()).value();
  CHECK(folder.name == "fraud");
  CHECK(folder.ignored == std::vector<std::string>{"README.md"});
  REQUIRE(folder.files.size() == 2);
  CHECK(folder.files[0].path == "manifest.json");
  CHECK(folder.files[1].sha256 == sha256_hex("weights"));
  const auto other = signature.open(key_of(2).public_key());
  REQUIRE_FALSE(other.has_value());
  CHECK(other.error().reason == reason::kInvalidSignature);
}

TEST_CASE("a signature whose text was altered opens with no key") {
  for (const char* part : {"payload", "sig"}) {
    const std::string bundle = with_bundle([&](Json& json) {
      Json& envelope = json["dsseEnvelope"];
      Json& text =
          part == std::string_view("sig") ? envelope["signatures"][0][part] : envelope[part];
      std::string bytes = *decode_base64(text.get<std::string>());
      bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
      text = encode_base64(bytes);
    });
    check_refused(opened(bundle, key_of(1)), "altered");
  }
}

TEST_CASE("bundles that are not of the format are refused by name") {
  struct Case {
    std::function<void(Json&)> edit;
    const char* words;
  };
  for (const Case& c : {
           Case{[](Json& json) { json["mediaType"] = "x"; }, "mediaType"},
           Case{[](Json& json) { json["verificationMaterial"] = {{"certificate", {}}}; },
                "bare key"},
           Case{[](Json& json) { json.erase("dsseEnvelope"); }, "envelope"},
           Case{[](Json& json) { json["dsseEnvelope"]["payload"] = "%"; }, "payload"},
           Case{[](Json& json) { json["dsseEnvelope"]["signatures"] = Json::array(); },
                "one signature"},
           Case{[](Json& json) {
                  Json& list = json["dsseEnvelope"]["signatures"];
                  list.push_back(Json(list[0]));
                },
                "one signature"},
           Case{[](Json& json) { json["dsseEnvelope"]["payloadType"] = "text/plain"; }, "hold"},
       }) {
    check_refused(opened(with_bundle(c.edit), key_of(1)), c.words);
  }
  check_refused(opened("{", key_of(1)), "JSON");
  check_refused(opened("[]", key_of(1)), "mediaType");
}

TEST_CASE("statements that say too little or too much are refused by name") {
  struct Case {
    std::function<void(Json&)> edit;
    const char* words;
  };
  const auto resource = [](Json& json) -> Json& { return json["predicate"]["resources"][0]; };
  for (const Case& c : {
           Case{[](Json& json) { json["predicateType"] = "x"; }, "is not of"},
           Case{[](Json& json) { json["subject"] = Json::array(); }, "one subject"},
           Case{[](Json& json) { json["predicate"].erase("resources"); }, "no files"},
           Case{[](Json& json) { json["predicate"]["serialization"]["method"] = "shards"; },
                "shards"},
           Case{[](Json& json) { json["predicate"]["serialization"]["hash_type"] = "blake2b"; },
                "SHA-256"},
           Case{[&](Json& json) { resource(json)["algorithm"] = "blake2b"; }, "SHA-256"},
           Case{[&](Json& json) { resource(json)["digest"] = "abc"; }, "SHA-256"},
           Case{[&](Json& json) { resource(json)["name"] = "../x"; }, "'../x'"},
           Case{[&](Json& json) { resource(json)["name"] = "/etc/passwd"; }, "'/etc/passwd'"},
           Case{[&](Json& json) { resource(json)["digest"] = sha256_hex("other"); }, "root digest"},
       }) {
    check_refused(opened(with_statement(c.edit), key_of(1)), c.words);
  }
  const std::string twice = with_statement([](Json& json) {
    Json& list = json["predicate"]["resources"];
    list.push_back(Json(list[0]));
    std::string digests;
    for (const Json& one : list) {
      for (std::size_t i = 0; i < 64; i += 2) {
        digests += static_cast<char>(
            std::stoi(one["digest"].get<std::string>().substr(i, 2), nullptr, 16));
      }
    }
    json["subject"][0]["digest"]["sha256"] = sha256_hex(digests);
  });
  check_refused(opened(twice, key_of(1)), "twice");
}

TEST_CASE("the files must be those that were signed, neither more nor fewer") {
  const SignedFolder folder = example();
  CHECK(check_files(folder, folder.files));
  auto files = folder.files;
  files[0].sha256 = sha256_hex("other weights");
  check_refused(check_files(folder, files), "'model/model.onnx' does not have");
  files = folder.files;
  files.pop_back();
  check_refused(check_files(folder, files), "'manifest.json' was signed and is missing");
  files = folder.files;
  files.push_back({.path = "model/extra.py", .sha256 = sha256_hex("")});
  check_refused(check_files(folder, files), "'model/extra.py' is none of the files");
}
