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

struct Source {
  DataType type;
  std::span<const std::int64_t> shape;
  std::span<const std::byte> bytes;
  JsonNesting nesting;
};

template <typename Append>
Status write(std::string& out, const Source& source, const SizeLimit& limit, Append append) {
  const std::uint64_t count = TRY(element_count(source.shape));
  ArrayWriter<Append> writer(out, source.shape, limit, append);
  if (source.nesting == JsonNesting::Flat) return writer.row(count);
  if (source.shape.empty()) return append(out);
  return writer.level(0);
}

template <typename T, auto convert>
Status write_fixed(std::string& out, const Source& source, const SizeLimit& limit) {
  const std::uint64_t expected = TRY(byte_count(source.type, source.shape));
  if (expected != source.bytes.size()) return bad_output("shape and size disagree");
  const auto append = [rest = source.bytes](std::string& text) mutable -> Status {
    append_value(text, convert(load<T>(rest)));
    rest = rest.subspan(sizeof(T));
    return {};
  };
  return write(out, source, limit, append);
}

template <typename T>
T same(T value) {
  return value;
}

template <typename T>
Status write_plain(std::string& out, const Source& source, const SizeLimit& limit) {
  return write_fixed<T, same<T>>(out, source, limit);
}

Status write_bools(std::string& out, const Source& source, const SizeLimit& limit) {
  const std::uint64_t expected = TRY(byte_count(source.type, source.shape));
  if (expected != source.bytes.size()) return bad_output("shape and size disagree");
  const auto append = [rest = source.bytes](std::string& text) mutable -> Status {
    text += load<std::uint8_t>(rest) != 0 ? "true" : "false";
    rest = rest.subspan(1);
    return {};
  };
  return write(out, source, limit, append);
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

Status write_strings(std::string& out, const Source& source, const SizeLimit& limit) {
  const auto append = [rest = source.bytes, &limit](std::string& text) mutable -> Status {
    const std::string element = TRY(take_string(rest, limit));
    if (!is_utf8(element)) {
      return refuse(reason::kInvalidInput,
                    "BYTES that are not UTF-8 have no JSON form; ask for binary data "
                    "(parameters.binary_data) through /v2");
    }
    append_json_string(text, element);
    return {};
  };
  return write(out, source, limit, append);
}

}  // namespace

Status append_json_tensor(std::string& out, DataType type, std::span<const std::int64_t> shape,
                          std::span<const std::byte> bytes, JsonNesting nesting,
                          const SizeLimit& limit) {
  const Source source{.type = type, .shape = shape, .bytes = bytes, .nesting = nesting};
  switch (type) {
    case DataType::Bool:
      return write_bools(out, source, limit);
    case DataType::Uint8:
      return write_plain<std::uint8_t>(out, source, limit);
    case DataType::Uint16:
      return write_plain<std::uint16_t>(out, source, limit);
    case DataType::Uint32:
      return write_plain<std::uint32_t>(out, source, limit);
    case DataType::Uint64:
      return write_plain<std::uint64_t>(out, source, limit);
    case DataType::Int8:
      return write_plain<std::int8_t>(out, source, limit);
    case DataType::Int16:
      return write_plain<std::int16_t>(out, source, limit);
    case DataType::Int32:
      return write_plain<std::int32_t>(out, source, limit);
    case DataType::Int64:
      return write_plain<std::int64_t>(out, source, limit);
    case DataType::Fp16:
      return write_fixed<std::uint16_t, fp16_to_float>(out, source, limit);
    case DataType::Bf16:
      return write_fixed<std::uint16_t, bf16_to_float>(out, source, limit);
    case DataType::Fp32:
      return write_plain<float>(out, source, limit);
    case DataType::Fp64:
      return write_plain<double>(out, source, limit);
    case DataType::Bytes:
      return write_strings(out, source, limit);
  }
  return fail(Code::Internal, "unknown datatype", reason::kInternal);
}

}  // namespace mayfly
