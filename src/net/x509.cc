#include "net/x509.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>

namespace mayfly {
namespace {

std::string text_of(const ASN1_STRING* text) {
  unsigned char* utf8 = nullptr;
  const int size = ASN1_STRING_to_UTF8(&utf8, text);
  if (size < 0) return {};
  std::string copy(reinterpret_cast<const char*>(utf8), static_cast<std::size_t>(size));
  OPENSSL_free(utf8);
  return copy;
}

std::string address_text(const ASN1_OCTET_STRING* address) {
  std::string text;
  const unsigned char* bytes = ASN1_STRING_get0_data(address);
  const int size = ASN1_STRING_length(address);
  for (int i = 0; i < size; ++i) {
    text += size == 4 ? fmt::format("{}{}", i > 0 ? "." : "", bytes[i])
                      : fmt::format("{}{:02x}", i > 0 && i % 2 == 0 ? ":" : "", bytes[i]);
  }
  return text;
}

std::string name_text(const GENERAL_NAME* name) {
  switch (name->type) {
    case GEN_DNS:
      return "DNS:" + text_of(name->d.dNSName);
    case GEN_URI:
      return "URI:" + text_of(name->d.uniformResourceIdentifier);
    case GEN_EMAIL:
      return "email:" + text_of(name->d.rfc822Name);
    case GEN_IPADD:
      return "IP:" + address_text(name->d.iPAddress);
    default:
      return {};
  }
}

}  // namespace

PeerCertificate describe_certificate(const X509& certificate) {
  PeerCertificate found;
  const X509_NAME* subject = X509_get_subject_name(&certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0) {
    found.common_name = text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  }
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    std::string text = name_text(sk_GENERAL_NAME_value(names, i));
    if (!text.empty()) found.names.push_back(std::move(text));
  }
  GENERAL_NAMES_free(names);
  return found;
}

std::optional<PeerCertificate> parse_peer_certificate(std::string_view pem) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> text(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      text ? PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr) : nullptr, &X509_free);
  ERR_clear_error();
  if (!certificate || X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
    return std::nullopt;
  }
  return describe_certificate(*certificate);
}

}  // namespace mayfly
