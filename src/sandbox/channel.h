// How one invocation crosses the jail's wall: a shared-memory region and a doorbell.
//
// Region (little-endian; every offset counts from the region's first byte):
//
//   0    RegionHeader                 written by the server, reply fields by the instance
//   128  TensorSlot[input_count]      what the request holds
//        TensorSlot[output_count]     .index: the outputs wanted; the rest is filled in by the
//        instance … each input's bytes, 64-byte aligned
//   outputs_offset … end of region    the instance puts outputs here, 64-byte aligned
//
// Small requests that reach an instance within one turn of the server's loop form a burst: they lie
// in lanes, equal parts of the instance's region that each look like a region, and share one ring
// of the doorbell. The instance claims a lane before it reads it, so that the server can take back
// what has not begun; a reply's status, written last, tells what has ended even if nothing rings.
//
// A region is a memfd without a name a client could pass, sealed against resizing before an
// instance gets it. It belongs to one instance, or to one invocation when the request is large, and
// never moves to another: whoever once had it mapped may still read and write it. When the server
// lets go of one, its pages go with it, whoever has it mapped.
//
// Trust: the instance is hostile. read_reply copies every length, offset and count once into the
// server's memory, checks the copy and never looks again. Tensor bytes may change under the reader;
// they are data, never control.
//
// What is rung for, and when: sandbox/doorbell.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "core/invocation.h"
#include "core/tensor.h"

namespace mayfly {

inline constexpr std::uint32_t kRegionMagic = 0x4d61'7966;  // "Mayf"
inline constexpr std::size_t kTensorAlignment = 64;
// Requests up to this size are decoded into the server's own memory and copied into the region of
// the instance that gets them: a copy of 1 KiB costs less than a system call, and it keeps regions
// bound to instances. Larger requests are received straight into a region of their own.
inline constexpr std::size_t kInlineRequest = 64 * 1024;
inline constexpr std::size_t kInstanceRegion = 256 * 1024;
inline constexpr std::size_t kLanes = 16;
inline constexpr std::size_t kLane = kInstanceRegion / kLanes;
inline constexpr std::size_t kMaxErrorText = 4096;
// A function's error may go on after its text: this character, and lines of its code.
inline constexpr char kTracebackMark = '\x1e';
inline constexpr std::size_t kMaxTraceback = 16 * 1024;

struct RegionHeader {
  std::uint32_t magic;
  std::uint32_t format;  // 1
  std::uint32_t input_count;
  std::uint32_t output_count;
  std::uint64_t request_bytes;   // header, slots and inputs
  std::uint64_t outputs_offset;  // where outputs may begin
  // Reply
  std::uint32_t status;  // ReplyStatus
  std::uint32_t error_bytes;
  std::uint64_t error_offset;
  std::uint32_t claim;  // Claim, changed atomically by both sides
  // What a function may know of its invocation.
  std::int64_t deadline;                 // CLOCK_MONOTONIC, ns; 0: none
  std::array<std::byte, 16> invocation;  // InvocationId
  std::array<std::byte, 48> reserved;
};
static_assert(sizeof(RegionHeader) == 128);

struct TensorSlot {
  std::uint32_t index;  // in the signature's inputs or outputs
  std::uint8_t type;    // DataType
  std::uint8_t rank;
  std::uint16_t form;  // InputForm; 0 for outputs
  std::array<std::int64_t, kMaxRank> dims;
  std::uint64_t offset;
  std::uint64_t bytes;
};
static_assert(sizeof(TensorSlot) == 152);

enum class ReplyStatus : std::uint32_t {
  None = 0,
  Ok = 1,
  ModelError = 2,
  InternalError = 3,
  FunctionError = 4,
  InvalidInput = 5,
  End = 6,  // of a stream: there are no more chunks
};
enum class Claim : std::uint32_t { Free = 0, Begun = 1, TakenBack = 2 };

// The memory of one request: a region, or a lane of one.
using RequestSpan = std::span<std::byte>;
RequestSpan lane(RequestSpan region, std::size_t index);

// Whether it was still free, and now is claimed.
bool claim(RequestSpan memory, Claim as);
// Whether a reply has been written: its bytes may be read from now on.
bool has_reply(RequestSpan memory);

// ---- Memory -------------------------------------------------------------------------------------

class Region {
 public:
  static Result<Region> create(std::size_t bytes);  // server: memfd, sealed, mapped
  static Result<Region> attach(Fd memfd,
                               std::size_t bytes);  // instance: maps, then closes the descriptor
  // Memory of this process and its forks only, without a descriptor: to warm a session with.
  static Result<Region> anonymous(std::size_t bytes);
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;
  ~Region();

  std::span<std::byte> bytes() const { return {data_, size_}; }
  std::size_t size() const { return size_; }
  int fd() const { return memfd_.get(); }

 private:
  Region(Fd memfd, std::byte* data, std::size_t size)
      : memfd_(std::move(memfd)), data_(data), size_(size) {}
  Fd memfd_;  // none on the instance's side
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// ---- The server's side of a request
// ---------------------------------------------------------------

struct InputPlan {
  std::uint32_t index = 0;
  DataType type = DataType::Fp32;
  Shape shape;
  std::uint64_t bytes = 0;
  InputForm form = InputForm::Tensor;
};

// Where everything of one request lies. Pure arithmetic, overflow-checked.
class RequestLayout {
 public:
  static Result<RequestLayout> plan(std::vector<InputPlan> inputs,
                                    std::vector<std::uint32_t> outputs);
  std::uint64_t request_bytes() const { return request_bytes_; }  // multiple of kTensorAlignment
  const std::vector<InputPlan>& inputs() const { return inputs_; }
  const std::vector<std::uint32_t>& outputs() const { return outputs_; }
  std::uint64_t input_offset(std::size_t i) const { return offsets_[i]; }

 private:
  std::vector<InputPlan> inputs_;
  std::vector<std::uint32_t> outputs_;
  std::vector<std::uint64_t> offsets_;
  std::uint64_t request_bytes_ = 0;
};

// A request being decoded: the server's own memory, or a region of its own when it is large.
class RequestMemory {
 public:
  // `output_bytes`: what the outputs are expected to need; only a hint.
  static Result<RequestMemory> allocate(RequestLayout layout, std::uint64_t output_bytes);

  const RequestLayout& layout() const { return layout_; }
  std::span<std::byte> input(std::size_t i);
  bool inlined() const { return !region_.has_value(); }
  std::uint64_t output_bytes() const { return output_bytes_; }
  bool fits_lane() const;                    // with its outputs, as far as they are known
  bool streams() const { return streams_; }  // it is answered in chunks
  void set_streams() { streams_ = true; }

  // What the function may know of its invocation.
  void describe(const InvocationId& id, TimePoint deadline);

  // Puts the finished request where an instance reads it: into `target`, at least kInlineRequest or
  // a lane that it fits; or, when it is not inlined, nowhere else: it lies in region() already.
  void place(RequestSpan target);
  const Region& region() const { return *region_; }

 private:
  RequestMemory(RequestLayout layout, std::optional<Region> region, std::vector<std::byte> heap,
                std::uint64_t output_bytes);
  std::span<std::byte> memory();

  RequestLayout layout_;
  std::optional<Region> region_;
  std::vector<std::byte> heap_;
  std::uint64_t output_bytes_ = 0;
  InvocationId invocation_;
  std::int64_t deadline_ = 0;
  bool streams_ = false;
};

// A reply after the server copied and checked it. The spans point into shared memory.
struct OutputView {
  std::uint32_t index = 0;
  DataType type = DataType::Fp32;
  Shape shape;
  std::span<const std::byte> bytes;
};

// `slots`: the memory that holds header and slots; `outputs`: that which holds the output bytes
// (the same unless an OutputRegion was sent). A model's own complaint is an Error with reason
// model_error, a function's function_error or invalid_input; anything malformed is bad_reply. The
// message of a function_error is to be given to take_traceback before anybody sees it.
Result<std::vector<OutputView>> read_reply(RequestSpan slots, RequestSpan outputs,
                                           const RequestLayout& layout, const Signature& signature);
// What such an error says of the function's code, for who may know it; the message is without it
// then. Empty: nothing.
std::string take_traceback(Error& error);

// Whether a stream is over, and well. To be asked once, when Done was rung.
bool has_ended(RequestSpan slots);

// ---- The instance's side
// ----------------------------------------------------------------------------

struct InputView {
  std::uint32_t index = 0;
  DataType type = DataType::Fp32;
  Shape shape;
  std::span<std::byte> bytes;
  InputForm form = InputForm::Tensor;
};

struct RequestView {
  std::vector<InputView> inputs;
  std::vector<std::uint32_t> outputs;
  InvocationId invocation = {};
  std::int64_t deadline = 0;  // CLOCK_MONOTONIC, ns; 0: none
};

Result<RequestView> read_request(RequestSpan memory);

struct OutputPlan {
  DataType type = DataType::Fp32;
  Shape shape;
  std::uint64_t bytes = 0;
};

// Where outputs of these sizes go in `target` from `begin` on; the bytes needed in all. Offsets are
// empty when they do not fit.
struct OutputPlacement {
  std::vector<std::uint64_t> offsets;
  std::uint64_t end = 0;
};
OutputPlacement place_outputs(std::span<const OutputPlan> outputs, std::uint64_t begin,
                              std::size_t limit);
std::uint64_t outputs_offset(RequestSpan memory);
void write_reply_slots(RequestSpan slots, std::span<const OutputPlan> outputs,
                       const OutputPlacement& placement);
void write_reply_end(RequestSpan slots);
// As much of the traceback as there is room for: its end.
void write_reply_error(RequestSpan slots, ReplyStatus status, std::string_view text,
                       std::string_view traceback = {});

}  // namespace mayfly
