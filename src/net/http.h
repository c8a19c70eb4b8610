// The values of HTTP/1.1 messages, as the server gives them to handlers and the client to its
// callers. Plain data: no I/O, no library types. RFC 9110 and 9112.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace mayfly {

// Header fields in the order they came. Names compare without regard to case. All text lies in one
// string, so that a cleared object is refilled without allocating; views are good until the next
// add() or clear().
class Headers {
 public:
  struct Field {
    std::string_view name;
    std::string_view value;
  };

  Headers() = default;
  Headers(std::initializer_list<Field> fields);

  // The value must have no CR, LF or NUL; server and client refuse to send one that has.
  void add(std::string_view name, std::string_view value);
  void clear();
  void reserve(std::size_t fields, std::size_t bytes);  // of names and values
  // The first field of that name.
  std::optional<std::string_view> find(std::string_view name) const;
  std::size_t count(std::string_view name) const;
  std::size_t size() const { return places_.size(); }
  Field operator[](std::size_t index) const;
  // Whether one of the comma-separated tokens of all fields of that name is `token`.
  bool has_token(std::string_view name, std::string_view token) const;
  // False when a name is no token or a value could end its line (header injection).
  bool well_formed() const;

 private:
  struct Place {
    std::uint32_t begin;
    std::uint32_t name_size;
    std::uint32_t value_size;
  };
  std::string text_;
  std::vector<Place> places_;
};

enum class Method : std::uint8_t { Get, Head, Post, Put, Delete, Patch, Options, Other };
Method parse_method(std::string_view text);

struct RequestHead {
  Method method = Method::Other;
  std::string method_text;
  std::string
      target;        // origin-form: "/v2/models/fraud/infer?x=1", also where the client sent a URL
  std::string host;  // of the URL or else of the Host header; with the port if there was one
  Headers headers;
  bool http_1_0 = false;
  bool keep_alive = true;
  bool chunked = false;
  bool expects_continue = false;
  std::optional<std::uint64_t> content_length;

  // What stands before the '?', still percent-encoded.
  std::string_view path() const;
  // The decoded value of the first parameter of that name: "" for "?name" and "?name=". nullopt
  // when there is none, or it is not decodable.
  std::optional<std::string> query(std::string_view name) const;
  bool has_body() const { return chunked || content_length.value_or(0) > 0; }
};

// "%41+b" → "A+b", and with Plus::IsSpace → "A b". nullopt for a bad escape.
enum class Plus : std::uint8_t { IsPlus, IsSpace };
std::optional<std::string> percent_decode(std::string_view text, Plus plus = Plus::IsPlus);

// Bytes that are sent from where they lie. `owner` keeps them there until they have been sent.
struct SharedBytes {
  std::vector<std::span<const std::byte>> parts;
  std::shared_ptr<const void> owner;
};

// What a handler answers. The server adds Content-Length, Date and Connection.
struct Response {
  int status = 200;
  Headers headers;
  std::variant<std::string, SharedBytes> body;
};

std::string_view reason_phrase(int status);
// {"error": message, "reason": reason} with the right Content-Type.
Response error_response(int status, std::string_view message, std::string_view reason);

bool equals_ignoring_case(std::string_view a, std::string_view b);
std::string_view trim_blanks(std::string_view text);  // spaces and tabs

}  // namespace mayfly
