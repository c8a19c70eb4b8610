#include "core/wire/tensor_to_json.h"

#include <fmt/format.h>

#include <cstring>

#include "core/reason.h"
#include "core/wire/json_text.h"
#include "core/wire/small_float.h"

namespace mayfly {
namespace {

std::unexpected<Error> bad_output(std::string_view what) {
  return refuse(reason::kBadReply, fmt::format("the instance's reply is malformed: {}", what));
}

// One copy out of memory that may change.
template <typename T>
T load(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  __asm__ volatile("" ::: "memory");
  return value;
}

template <typename T>
void append_value(std::string& out, T value) {
  if constexpr (std::is_floating_point_v<T>) {
    append_json_number(out, value);
  } else if constexpr (std::is_signed_v<T>) {
    append_json_number(out, std::int64_t{value});
  } else {
    append_json_number(out, std::uint64_t{value});
  }
}

// `Append` writes the next element; an error ends the whole.
template <typename Append>
class ArrayWriter {
 public:
  ArrayWriter(std::string& out, std::span<const std::int64_t> shape, const SizeLimit& limit,
              Append& append)
      : out_(out), shape_(shape), limit_(limit), append_(append) {}

  Status row(std::uint64_t length) {
    out_ += '[';
    for (std::uint64_t i = 0; i < length; ++i) {
      if (i > 0) out_ += ',';
      TRY(append_(out_));
      if (out_.size() > limit_.bytes) [[unlikely]] {
        return refuse_size("the reply", limit_);
      }
    }
    out_ += ']';
    return {};
  }

  Status level(std::size_t depth) {  // at most kMaxRank deep
    const auto length = static_cast<std::uint64_t>(shape_[depth]);
    if (depth + 1 == shape_.size()) return row(length);
    out_ += '[';
    for (std::uint64_t i = 0; i < length; ++i) {
      if (i > 0) out_ += ',';
      TRY(level(depth + 1));
      if (out_.size() > limit_.bytes) return refuse_size("the reply", limit_);
    }
    out_ += ']';
    return {};
  }

 private:
  std::string& out_;
  std::span<const std::int64_t> shape_;
  const SizeLimit& limit_;
  Append& append_;
};

template <typename Append>
Status write(std::string& out, const JsonTensor& tensor, const SizeLimit& limit, Append append) {
  const std::uint64_t count = TRY(element_count(tensor.shape));
  ArrayWriter<Append> writer(out, tensor.shape, limit, append);
  if (tensor.nesting == JsonNesting::Flat) return writer.row(count);
  if (tensor.shape.empty()) return append(out);
  return writer.level(0);
}

Status check_covered(const JsonTensor& tensor) {
  if (TRY(byte_count(tensor.type, tensor.shape)) <= tensor.bytes.size()) return {};
  return bad_output("shape and size disagree");
}

template <typename T, auto convert>
Status write_fixed(std::string& out, JsonTensor& rest, const SizeLimit& limit) {
  TRY(check_covered(rest));
  const auto append = [&bytes = rest.bytes](std::string& text) -> Status {
    append_value(text, convert(load<T>(bytes)));
    bytes = bytes.subspan(sizeof(T));
    return {};
  };
  return write(out, rest, limit, append);
}

template <typename T>
T same(T value) {
  return value;
}

template <typename T>
Status write_plain(std::string& out, JsonTensor& rest, const SizeLimit& limit) {
  return write_fixed<T, same<T>>(out, rest, limit);
}

Status write_bools(std::string& out, JsonTensor& rest, const SizeLimit& limit) {
  TRY(check_covered(rest));
  const auto append = [&bytes = rest.bytes](std::string& text) -> Status {
    text += load<std::uint8_t>(bytes) != 0 ? "true" : "false";
    bytes = bytes.subspan(1);
    return {};
  };
  return write(out, rest, limit, append);
}

// The next element, in memory of our own.
Result<std::string> take_string(std::span<const std::byte>& rest, const SizeLimit& limit) {
  if (rest.size() < sizeof(std::uint32_t)) return bad_output("a BYTES output ends early");
  const auto length = load<std::uint32_t>(rest);
  rest = rest.subspan(sizeof(std::uint32_t));
  if (length > rest.size()) return bad_output("a BYTES element is longer than its tensor");
  if (length > limit.bytes) return refuse_size("the reply", limit);
  std::string text(reinterpret_cast<const char*>(rest.data()), length);
  rest = rest.subspan(length);
  return text;
}

Status append_element(std::string& out, std::string_view element, JsonBytes form) {
  if (form != JsonBytes::Base64 && is_utf8(element)) {
    append_json_string(out, element);
    return {};
  }
  if (form == JsonBytes::Text) {
    return refuse(reason::kInvalidInput,
                  "BYTES that are not UTF-8 have no JSON form; ask for binary data "
                  "(parameters.binary_data) through /v2");
  }
  append_json_base64(out, element);
  return {};
}

Status write_strings(std::string& out, JsonTensor& rest, const SizeLimit& limit) {
  const auto append = [&rest, &limit](std::string& text) -> Status {
    return append_element(text, TRY(take_string(rest.bytes, limit)), rest.elements);
  };
  return write(out, rest, limit, append);
}

// Takes what it writes off the bytes of `rest`.
Status write_tensor(std::string& out, JsonTensor& rest, const SizeLimit& limit) {
  switch (rest.type) {
    case DataType::Bool:
      return write_bools(out, rest, limit);
    case DataType::Uint8:
      return write_plain<std::uint8_t>(out, rest, limit);
    case DataType::Uint16:
      return write_plain<std::uint16_t>(out, rest, limit);
    case DataType::Uint32:
      return write_plain<std::uint32_t>(out, rest, limit);
    case DataType::Uint64:
      return write_plain<std::uint64_t>(out, rest, limit);
    case DataType::Int8:
      return write_plain<std::int8_t>(out, rest, limit);
    case DataType::Int16:
      return write_plain<std::int16_t>(out, rest, limit);
    case DataType::Int32:
      return write_plain<std::int32_t>(out, rest, limit);
    case DataType::Int64:
      return write_plain<std::int64_t>(out, rest, limit);
    case DataType::Fp16:
      return write_fixed<std::uint16_t, fp16_to_float>(out, rest, limit);
    case DataType::Bf16:
      return write_fixed<std::uint16_t, bf16_to_float>(out, rest, limit);
    case DataType::Fp32:
      return write_plain<float>(out, rest, limit);
    case DataType::Fp64:
      return write_plain<double>(out, rest, limit);
    case DataType::Bytes:
      return write_strings(out, rest, limit);
  }
  return fail(Code::Internal, "unknown datatype", reason::kInternal);
}

}  // namespace

Status append_json_tensor(std::string& out, const JsonTensor& tensor, const SizeLimit& limit) {
  JsonTensor rest = tensor;
  if (tensor.type != DataType::Bytes &&
      TRY(byte_count(tensor.type, tensor.shape)) != tensor.bytes.size()) {
    return bad_output("shape and size disagree");
  }
  return write_tensor(out, rest, limit);
}

Status append_json_row(std::string& out, JsonTensor& rest, const SizeLimit& limit) {
  JsonTensor row = rest;
  row.shape = rest.shape.subspan(1);
  TRY(write_tensor(out, row, limit));
  rest.bytes = row.bytes;
  return {};
}

}  // namespace mayfly
