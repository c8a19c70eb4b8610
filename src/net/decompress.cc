#include "net/decompress.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>

#include "base/check.h"
#include "net/http.h"

namespace mayfly {
namespace {

// windowBits of zlib: the size of the window, plus 16 for a gzip wrapper, negative for none.
constexpr int kZlibWindow = 15;
constexpr int kGzipWindow = 15 + 16;
constexpr int kRawWindow = -15;

std::unexpected<Error> corrupt(Encoding encoding) {
  return fail(Code::InvalidArgument,
              fmt::format("the body is not valid {} data", to_string(encoding)), "bad_request");
}

uInt clamp(std::size_t size) {
  return static_cast<uInt>(std::min<std::size_t>(size, UINT_MAX / 2));
}

// RFC 1950 §2.2: compression method 8, and the two bytes are a multiple of 31.
bool is_zlib_header(unsigned first, unsigned second) {
  return (first & 0x0f) == 8 && (first >> 4) <= 7 && (first * 256 + second) % 31 == 0;
}

// q of "gzip;q=0.5", in thousandths.
int quality_of(std::string_view parameters) {
  const auto q = parameters.find("q=");
  if (q == std::string_view::npos) return 1000;
  const std::string_view text = trim_blanks(parameters.substr(q + 2));
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(value >= 0 && value <= 1)) return 0;
  return static_cast<int>(value * 1000);
}

}  // namespace

std::string_view to_string(Encoding encoding) {
  return encoding == Encoding::Gzip ? "gzip" : "deflate";
}

Result<std::optional<Encoding>> parse_content_encoding(std::string_view value) {
  const std::string_view name = trim_blanks(value);
  if (name.empty() || equals_ignoring_case(name, "identity")) return std::nullopt;
  if (equals_ignoring_case(name, "gzip") || equals_ignoring_case(name, "x-gzip")) {
    return Encoding::Gzip;
  }
  if (equals_ignoring_case(name, "deflate")) return Encoding::Deflate;
  return fail(Code::Unimplemented,
              fmt::format("Content-Encoding '{}' is not supported; send gzip, deflate or none",
                          name.substr(0, 40)),
              "unsupported_media_type");
}

std::optional<Encoding> choose_encoding(std::string_view accept_encoding) {
  int gzip = -1;
  int deflate = -1;
  int any = 0;
  while (!accept_encoding.empty()) {
    const auto comma = std::min(accept_encoding.find(','), accept_encoding.size());
    const std::string_view item = accept_encoding.substr(0, comma);
    accept_encoding.remove_prefix(std::min(comma + 1, accept_encoding.size()));
    const auto semicolon = std::min(item.find(';'), item.size());
    const std::string_view name = trim_blanks(item.substr(0, semicolon));
    const int quality = quality_of(item.substr(semicolon));
    if (equals_ignoring_case(name, "gzip")) gzip = quality;
    if (equals_ignoring_case(name, "deflate")) deflate = quality;
    if (name == "*") any = quality;
  }
  if (gzip < 0) gzip = any;
  if (deflate < 0) deflate = any;
  if (gzip == 0 && deflate == 0) return std::nullopt;
  return gzip >= deflate ? Encoding::Gzip : Encoding::Deflate;
}

struct Decompressor::State {
  State(Encoding of, Bytes limit) : encoding(of), output_left(limit.count) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  Encoding encoding;
  std::uint64_t output_left;
  z_stream stream{};
  bool started = false;
  bool done = false;
  // A stream may be split anywhere, also after the first of the two bytes that tell zlib from raw.
  std::array<std::uint8_t, 2> sniffed{};
  std::size_t sniffed_count = 0;

  ~State() {
    if (started) (void)::inflateEnd(&stream);
  }

  void start(int window) {
    CHECK(::inflateInit2(&stream, window) == Z_OK);  // fails only without memory
    started = true;
  }

  // Returns how much of `in` was looked at. Starts the stream once it knows which it is.
  std::size_t sniff(std::span<const std::byte> in) {
    std::size_t used = 0;
    while (sniffed_count < 2 && used < in.size()) {
      sniffed[sniffed_count++] = static_cast<std::uint8_t>(in[used++]);
    }
    if (sniffed_count == 2) {
      start(is_zlib_header(sniffed[0], sniffed[1]) ? kZlibWindow : kRawWindow);
    }
    return used;
  }

  // One call of zlib over one piece of input.
  Result<Progress> inflate_some(const std::uint8_t* in, std::size_t in_size,
                                std::span<std::byte> out) {
    stream.next_in = const_cast<Bytef*>(in);
    stream.avail_in = clamp(in_size);
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = clamp(out.size());
    const uInt in_before = stream.avail_in;
    const uInt out_before = stream.avail_out;
    const int code = ::inflate(&stream, Z_NO_FLUSH);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) return corrupt(encoding);
    done = code == Z_STREAM_END;
    return Progress{.consumed = in_before - stream.avail_in,
                    .produced = out_before - stream.avail_out,
                    .done = done};
  }
};

Decompressor::Decompressor(Encoding encoding, Bytes limit)
    : state_(std::make_unique<State>(encoding, limit)) {
  if (encoding == Encoding::Gzip) state_->start(kGzipWindow);
}
Decompressor::~Decompressor() = default;
Decompressor::Decompressor(Decompressor&&) noexcept = default;
Decompressor& Decompressor::operator=(Decompressor&&) noexcept = default;

bool Decompressor::done() const { return state_->done; }

Result<Decompressor::Progress> Decompressor::decode(std::span<const std::byte> in,
                                                    std::span<std::byte> out) {
  State& state = *state_;
  Progress total{.done = state.done};
  if (!state.started) {
    total.consumed = state.sniff(in);
    if (!state.started) return total;
    const Progress head =
        TRY(state.inflate_some(state.sniffed.data(), state.sniffed.size(), out.first(0)));
    // Two bytes cannot fill the window, so zlib takes them without output.
    if (head.consumed != state.sniffed.size()) return corrupt(state.encoding);
    in = in.subspan(total.consumed);
  }
  if (state.done && !in.empty()) {
    if (state.encoding != Encoding::Gzip) return corrupt(state.encoding);
    CHECK(::inflateReset(&state.stream) == Z_OK);
    state.done = false;
  }
  // One byte more than the limit, so that an output of exactly the limit is told from a longer one.
  std::array<std::byte, 1> probe;
  const bool at_limit = state.output_left == 0;
  std::span<std::byte> room =
      at_limit ? std::span<std::byte>(probe)
               : out.first(std::min<std::uint64_t>(out.size(), state.output_left));
  const Progress step =
      TRY(state.inflate_some(reinterpret_cast<const std::uint8_t*>(in.data()), in.size(), room));
  if (at_limit && step.produced > 0) {
    return fail(Code::ResourceExhausted, "the decompressed body is larger than the limit",
                "too_large");
  }
  state.output_left -= step.produced;
  total.consumed += step.consumed;
  total.produced += step.produced;
  total.done = step.done;
  return total;
}

std::string compress(Encoding encoding, std::span<const std::span<const std::byte>> parts) {
  z_stream stream{};
  const int window = encoding == Encoding::Gzip ? kGzipWindow : kZlibWindow;
  // Level 1: replies are made while somebody waits.
  CHECK(::deflateInit2(&stream, 1, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out;
  std::array<Bytef, 16384> chunk;
  const auto run = [&](std::span<const std::byte> in, int flush) {
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    stream.avail_in = clamp(in.size());
    do {
      stream.next_out = chunk.data();
      stream.avail_out = static_cast<uInt>(chunk.size());
      CHECK(::deflate(&stream, flush) != Z_STREAM_ERROR);
      out.append(reinterpret_cast<const char*>(chunk.data()), chunk.size() - stream.avail_out);
    } while (stream.avail_out == 0);
  };
  for (std::span<const std::byte> part : parts) {
    while (!part.empty()) {
      const std::size_t size = clamp(part.size());
      run(part.first(size), Z_NO_FLUSH);
      part = part.subspan(size);
    }
  }
  run({}, Z_FINISH);
  (void)::deflateEnd(&stream);
  return out;
}

std::string compress(Encoding encoding, std::string_view bytes) {
  const std::array parts{std::as_bytes(std::span(bytes))};
  return compress(encoding, std::span<const std::span<const std::byte>>(parts));
}

Result<std::string> decompress(Encoding encoding, std::string_view bytes, Bytes limit) {
  Decompressor decompressor(encoding, limit);
  std::span<const std::byte> in = std::as_bytes(std::span(bytes));
  std::string out;
  std::array<std::byte, 16384> chunk;
  while (true) {
    const Decompressor::Progress step = TRY(decompressor.decode(in, chunk));
    out.append(reinterpret_cast<const char*>(chunk.data()), step.produced);
    in = in.subspan(step.consumed);
    if (step.done && in.empty()) return out;
    if (step.consumed == 0 && step.produced == 0) return corrupt(encoding);  // cut short
  }
}

}  // namespace mayfly
