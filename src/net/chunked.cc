#include "net/chunked.h"

namespace mayfly {
namespace {

bool is_control(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; }

std::unexpected<Error> bad_chunk() {
  return fail(Code::InvalidArgument, "the chunked body is malformed", "bad_request");
}

}  // namespace

Result<std::size_t> ChunkDecoder::read_framing(std::string_view bytes) {
  std::size_t used = 0;
  while (used < bytes.size() && data_left_ == 0 && !done()) {
    if (++framing_ > kMaxFraming) return bad_chunk();
    TRY(step(bytes[used++]));
  }
  return used;
}

Status ChunkDecoder::size_digit(char c) {
  int digit = -1;
  if (c >= '0' && c <= '9') digit = c - '0';
  if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') digit = (c | 0x20) - 'a' + 10;
  if (digit >= 0) {
    // Sixteen digits would fit, but a size past 2^60 is a lie in any case.
    if (++digits_ > 15) return bad_chunk();
    size_ = size_ * 16 + static_cast<std::uint64_t>(digit);
    return {};
  }
  if (digits_ == 0) return bad_chunk();
  if (c == ';') {
    state_ = State::Extension;
  } else if (c == '\r') {
    state_ = State::SizeLf;
  } else {
    return bad_chunk();
  }
  return {};
}

// A state machine over one byte of framing; data bytes never come here.
Status ChunkDecoder::step(char c) {
  const auto expect = [&](char wanted, State next) -> Status {
    if (c != wanted) return bad_chunk();
    state_ = next;
    return {};
  };
  switch (state_) {
    case State::Size:
      return size_digit(c);
    case State::Extension:
      if (c == '\r') {
        state_ = State::SizeLf;
      } else if (is_control(c)) {
        return bad_chunk();
      }
      return {};
    case State::SizeLf:
      TRY(expect('\n', size_ == 0 ? State::LineStart : State::DataCr));
      data_left_ = size_;
      size_ = 0;
      digits_ = 0;
      framing_ = 0;
      return {};
    case State::DataCr:
      return expect('\r', State::DataLf);
    case State::DataLf:
      return expect('\n', State::Size);
    case State::LineStart:
      if (c == '\r') {
        state_ = State::EndLf;
        return {};
      }
      // A blank would continue the line before it, a colon would be a field without a name.
      if (is_control(c) || c == ' ' || c == '\t' || c == ':') return bad_chunk();
      state_ = State::Name;
      return {};
    case State::Name:
      if (is_control(c) || c == ' ' || c == '\t') return bad_chunk();
      if (c == ':') state_ = State::Line;
      return {};
    case State::Line:
      if (c == '\r') {
        state_ = State::LineLf;
      } else if (is_control(c)) {
        return bad_chunk();
      }
      return {};
    case State::LineLf:
      return expect('\n', State::LineStart);
    case State::EndLf:
      return expect('\n', State::Done);
    case State::Done:
      break;
  }
  return bad_chunk();
}

}  // namespace mayfly
