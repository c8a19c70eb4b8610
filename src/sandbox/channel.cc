#include "sandbox/channel.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "core/reason.h"

namespace mayfly {
namespace {

// Of the kernels this runs on (arm64). A page is only given back when all of it is in the hole.
constexpr std::size_t kLargestPage = 64 * 1024;

constexpr std::uint64_t align(std::uint64_t value) {
  return (value + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
}

// Every access to shared memory goes through these: one copy, into memory the peer cannot reach.
template <typename T>
T load(std::span<const std::byte> memory, std::uint64_t offset) {
  static_assert(std::is_trivially_copyable_v<T>);
  CHECK(offset <= memory.size() && memory.size() - offset >= sizeof(T));
  T value;
  std::memcpy(&value, memory.data() + offset, sizeof(T));
  // The copy must be what is checked and used: no re-reading of the source by the compiler.
  __asm__ volatile("" ::: "memory");
  return value;
}

template <typename T>
void store(std::span<std::byte> memory, std::uint64_t offset, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  CHECK(offset <= memory.size() && memory.size() - offset >= sizeof(T));
  std::memcpy(memory.data() + offset, &value, sizeof(T));
}

constexpr std::uint64_t slot_offset(std::size_t i) {
  return sizeof(RegionHeader) + i * sizeof(TensorSlot);
}

bool inside(std::uint64_t offset, std::uint64_t bytes, std::size_t size) {
  return offset <= size && bytes <= size - offset;
}

TensorSlot make_slot(std::uint32_t index, DataType type, std::span<const std::int64_t> shape,
                     std::uint64_t offset, std::uint64_t bytes) {
  CHECK(shape.size() <= kMaxRank);
  TensorSlot slot{};
  slot.index = index;
  slot.type = static_cast<std::uint8_t>(type);
  slot.rank = static_cast<std::uint8_t>(shape.size());
  std::ranges::copy(shape, slot.dims.begin());
  slot.offset = offset;
  slot.bytes = bytes;
  return slot;
}

std::unexpected<Error> bad_reply(std::string_view what) {
  return refuse(reason::kBadReply, fmt::format("the instance's reply is malformed: {}", what));
}

Result<std::byte*> map_shared(int fd, std::size_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return fail_errno("map invocation memory");
  return static_cast<std::byte*>(data);
}

// The header's words that both sides use while the other may.
std::atomic_ref<std::uint32_t> word(RequestSpan memory, std::size_t offset) {
  CHECK(memory.size() >= sizeof(RegionHeader));
  return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(memory.data() + offset));
}
std::atomic_ref<std::uint32_t> status_word(RequestSpan memory) {
  return word(memory, offsetof(RegionHeader, status));
}

bool is_complaint(std::uint32_t status) {
  return status > static_cast<std::uint32_t>(ReplyStatus::Ok) &&
         status <= static_cast<std::uint32_t>(ReplyStatus::InvalidInput);
}

std::string_view reason_of(ReplyStatus complaint) {
  switch (complaint) {
    case ReplyStatus::ModelError:
      return reason::kModelError;
    case ReplyStatus::FunctionError:
      return reason::kFunctionError;
    case ReplyStatus::InvalidInput:
      return reason::kInvalidInput;
    default:
      return reason::kInternal;
  }
}

// What a terminal would obey is no text; lines stay lines, and the mark of a traceback the first
// time.
std::string readable(std::string text) {
  const std::size_t mark = text.find(kTracebackMark);
  for (char& c : text) c = (c >= ' ' && c != 127) || c == '\n' || c == '\t' ? c : (c < 0 ? c : '?');
  // C1 controls, as UTF-8: some terminals obey them.
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    const auto next = static_cast<unsigned char>(text[i + 1]);
    if (text[i] == '\xC2' && next >= 0x80 && next < 0xA0) text[i] = text[i + 1] = '?';
  }
  if (mark != std::string::npos) text[mark] = kTracebackMark;
  return text;
}

Error complaint_of(RequestSpan memory, const RegionHeader& header) {
  const auto status = static_cast<ReplyStatus>(header.status);
  const std::size_t longest =
      kMaxErrorText + (status == ReplyStatus::FunctionError ? 1 + kMaxTraceback : 0);
  const std::uint64_t length = std::min<std::uint64_t>(header.error_bytes, longest);
  std::string text = "no message";
  if (inside(header.error_offset, length, memory.size())) {
    const std::span<const std::byte> bytes = memory.subspan(header.error_offset, length);
    text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    text = readable(std::move(text));
  }
  return refuse(reason_of(status), std::move(text)).error();
}

}  // namespace

Result<Region> Region::create(std::size_t bytes) {
  Fd memfd(::memfd_create("invocation", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) return fail_errno("create invocation memory");
  if (::ftruncate(memfd.get(), static_cast<off_t>(bytes)) != 0)
    return fail_errno("size invocation memory");
  if (::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail_errno("seal invocation memory");
  }
  std::byte* data = TRY(map_shared(memfd.get(), bytes));
  return Region(std::move(memfd), data, bytes);
}

Result<Region> Region::attach(Fd memfd, std::size_t bytes) {
  std::byte* data = TRY(map_shared(memfd.get(), bytes));
  return Region(Fd(), data, bytes);
}

Result<Region> Region::anonymous(std::size_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return fail_errno("map memory");
  return Region(Fd(), static_cast<std::byte*>(data), bytes);
}

Region::Region(Region&& other) noexcept
    : memfd_(std::move(other.memfd_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

Region& Region::operator=(Region&& other) noexcept {
  std::swap(memfd_, other.memfd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Region::~Region() {
  if (data_ == nullptr) return;
  ::munmap(data_, size_);
  // A hostile instance keeps what it has mapped, and its pages were charged to the server: they are
  // given back now. What it touches afterwards is charged to itself.
  if (memfd_) {
    std::ignore = ::fallocate(memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                              static_cast<off_t>(size_ + kLargestPage));
  }
}

RequestSpan lane(RequestSpan region, std::size_t index) {
  return region.subspan(index * kLane, kLane);
}

bool claim(RequestSpan memory, Claim as) {
  auto expected = static_cast<std::uint32_t>(Claim::Free);
  return word(memory, offsetof(RegionHeader, claim))
      .compare_exchange_strong(expected, static_cast<std::uint32_t>(as));
}

bool has_reply(RequestSpan memory) {
  return status_word(memory).load(std::memory_order_acquire) !=
         static_cast<std::uint32_t>(ReplyStatus::None);
}

Result<RequestLayout> RequestLayout::plan(std::vector<InputPlan> inputs,
                                          std::vector<std::uint32_t> outputs) {
  if (inputs.size() > kMaxTensors || outputs.size() > kMaxTensors) {
    return refuse(reason::kInvalidInput,
                  fmt::format("a request has at most {} tensors", kMaxTensors));
  }
  RequestLayout layout;
  std::uint64_t end = slot_offset(inputs.size() + outputs.size());
  for (const InputPlan& input : inputs) {
    const std::uint64_t begin = align(end);
    if (input.bytes > INT64_MAX || __builtin_add_overflow(begin, input.bytes, &end) ||
        end > INT64_MAX) {
      return refuse(reason::kTooLarge, "the request's tensors are too large to address");
    }
    layout.offsets_.push_back(begin);
  }
  layout.request_bytes_ = align(end);
  layout.inputs_ = std::move(inputs);
  layout.outputs_ = std::move(outputs);
  return layout;
}

Result<RequestMemory> RequestMemory::allocate(RequestLayout layout, std::uint64_t output_bytes) {
  const std::uint64_t request = layout.request_bytes();
  if (request <= kInlineRequest) {
    return RequestMemory(std::move(layout), std::nullopt, std::vector<std::byte>(request),
                         output_bytes);
  }
  Region region = TRY(Region::create(request + align(output_bytes) + kMaxErrorText));
  return RequestMemory(std::move(layout), std::move(region), {}, output_bytes);
}

RequestMemory::RequestMemory(RequestLayout layout, std::optional<Region> region,
                             std::vector<std::byte> heap, std::uint64_t output_bytes)
    : layout_(std::move(layout)),
      region_(std::move(region)),
      heap_(std::move(heap)),
      output_bytes_(output_bytes) {
  const std::size_t inputs = layout_.inputs().size();
  for (std::size_t i = 0; i < inputs; ++i) {
    const InputPlan& input = layout_.inputs()[i];
    TensorSlot slot =
        make_slot(input.index, input.type, input.shape, layout_.input_offset(i), input.bytes);
    slot.form = static_cast<std::uint16_t>(input.form);
    store(memory(), slot_offset(i), slot);
  }
  for (std::size_t i = 0; i < layout_.outputs().size(); ++i) {
    store(memory(), slot_offset(inputs + i),
          make_slot(layout_.outputs()[i], DataType::Fp32, {}, 0, 0));
  }
}

std::span<std::byte> RequestMemory::memory() {
  return region_ ? region_->bytes() : std::span<std::byte>(heap_);
}

std::span<std::byte> RequestMemory::input(std::size_t i) {
  return memory().subspan(layout_.input_offset(i), layout_.inputs()[i].bytes);
}

bool RequestMemory::fits_lane() const {
  return inlined() && !streams_ && heap_.size() <= kLane && output_bytes_ <= kLane - heap_.size();
}

void RequestMemory::describe(const InvocationId& id, TimePoint deadline) {
  invocation_ = id;
  deadline_ = deadline.time_since_epoch().count();
}

void RequestMemory::place(RequestSpan target) {
  RegionHeader header{};
  header.magic = kRegionMagic;
  header.format = 1;
  header.input_count = static_cast<std::uint32_t>(layout_.inputs().size());
  header.output_count = static_cast<std::uint32_t>(layout_.outputs().size());
  header.request_bytes = layout_.request_bytes();
  header.outputs_offset = layout_.request_bytes();
  header.deadline = deadline_;
  header.invocation = invocation_.bytes;
  store(memory(), 0, header);
  if (!inlined()) return;
  CHECK(heap_.size() <= target.size());
  std::ranges::copy(heap_, target.begin());
}

std::string take_traceback(Error& error) {
  const std::size_t mark = error.message.find(kTracebackMark);
  if (mark == std::string::npos) {
    if (error.message.size() > kMaxErrorText) error.message.resize(kMaxErrorText);
    return {};
  }
  std::string traceback = error.message.substr(mark + 1);
  error.message.resize(std::min(mark, kMaxErrorText));
  return traceback;
}

Result<std::vector<OutputView>> read_reply(RequestSpan slots, RequestSpan outputs,
                                           const RequestLayout& layout,
                                           const Signature& signature) {
  const auto header = load<RegionHeader>(slots, 0);
  if (is_complaint(header.status)) return std::unexpected(complaint_of(slots, header));
  if (header.status != static_cast<std::uint32_t>(ReplyStatus::Ok))
    return bad_reply("unknown status");

  std::vector<OutputView> views;
  views.reserve(layout.outputs().size());
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < layout.outputs().size(); ++i) {
    const auto slot = load<TensorSlot>(slots, slot_offset(layout.inputs().size() + i));
    const std::uint32_t index = layout.outputs()[i];  // what was asked for, not what the slot says
    if (!is_known(slot.type) || slot.rank > kMaxRank) return bad_reply("unknown datatype or rank");
    OutputView view{.index = index,
                    .type = static_cast<DataType>(slot.type),
                    .shape = Shape(slot.dims.begin(), slot.dims.begin() + slot.rank),
                    .bytes = {}};
    if (view.type != signature.outputs.at(index).type)
      return bad_reply("another datatype than the signature's");
    const auto expected = byte_count(view.type, view.shape);
    if (!expected) return bad_reply("impossible shape");
    if (view.type != DataType::Bytes && *expected != slot.bytes)
      return bad_reply("shape and size disagree");
    if (!inside(slot.offset, slot.bytes, outputs.size()))
      return bad_reply("output outside the region");
    // Each is within the region, so the sum cannot overflow; more than all of it means that they
    // overlap, and would cost the server a multiple of what the instance has.
    total += slot.bytes;
    if (total > outputs.size()) return bad_reply("outputs overlap");
    view.bytes = outputs.subspan(slot.offset, slot.bytes);
    views.push_back(std::move(view));
  }
  return views;
}

bool has_ended(RequestSpan slots) {
  return status_word(slots).load(std::memory_order_acquire) ==
         static_cast<std::uint32_t>(ReplyStatus::End);
}

Result<RequestView> read_request(RequestSpan memory) {
  const auto bad = [](std::string_view what) {
    return fail(Code::Internal, fmt::format("request region: {}", what));
  };
  if (memory.size() < sizeof(RegionHeader)) return bad("too small");
  const auto header = load<RegionHeader>(memory, 0);
  if (header.magic != kRegionMagic || header.format != 1) return bad("wrong magic or format");
  if (header.input_count > kMaxTensors || header.output_count > kMaxTensors ||
      slot_offset(header.input_count + header.output_count) > memory.size()) {
    return bad("too many tensors");
  }
  RequestView view;
  view.invocation.bytes = header.invocation;
  view.deadline = header.deadline;
  for (std::size_t i = 0; i < header.input_count; ++i) {
    const auto slot = load<TensorSlot>(memory, slot_offset(i));
    if (!is_known(slot.type) || slot.rank > kMaxRank ||
        !inside(slot.offset, slot.bytes, memory.size())) {
      return bad("input outside the region");
    }
    if (slot.form > static_cast<std::uint16_t>(InputForm::Document)) {
      return bad("unknown form of an input");
    }
    view.inputs.push_back({.index = slot.index,
                           .type = static_cast<DataType>(slot.type),
                           .shape = Shape(slot.dims.begin(), slot.dims.begin() + slot.rank),
                           .bytes = memory.subspan(slot.offset, slot.bytes),
                           .form = static_cast<InputForm>(slot.form)});
  }
  for (std::size_t i = 0; i < header.output_count; ++i) {
    view.outputs.push_back(load<TensorSlot>(memory, slot_offset(header.input_count + i)).index);
  }
  return view;
}

OutputPlacement place_outputs(std::span<const OutputPlan> outputs, std::uint64_t begin,
                              std::size_t limit) {
  OutputPlacement placement;
  std::uint64_t end = begin;
  for (const OutputPlan& output : outputs) {
    const std::uint64_t offset = align(end);
    placement.offsets.push_back(offset);
    end = offset + output.bytes;
  }
  placement.end = end;
  if (end > limit) placement.offsets.clear();
  return placement;
}

std::uint64_t outputs_offset(RequestSpan memory) {
  return load<RegionHeader>(memory, 0).outputs_offset;
}

void write_reply_slots(RequestSpan slots, std::span<const OutputPlan> outputs,
                       const OutputPlacement& placement) {
  const auto inputs = load<RegionHeader>(slots, 0).input_count;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const std::uint64_t where = slot_offset(inputs + i);
    const auto wanted = load<TensorSlot>(slots, where).index;
    store(slots, where,
          make_slot(wanted, outputs[i].type, outputs[i].shape, placement.offsets.at(i),
                    outputs[i].bytes));
  }
  status_word(slots).store(static_cast<std::uint32_t>(ReplyStatus::Ok), std::memory_order_release);
}

void write_reply_end(RequestSpan slots) {
  status_word(slots).store(static_cast<std::uint32_t>(ReplyStatus::End), std::memory_order_release);
}

void write_reply_error(RequestSpan slots, ReplyStatus status, std::string_view text,
                       std::string_view traceback) {
  auto header = load<RegionHeader>(slots, 0);
  const std::uint64_t begin = std::min<std::uint64_t>(header.outputs_offset, slots.size());
  const std::size_t room = slots.size() - begin;
  std::size_t length = std::min({text.size(), room, kMaxErrorText});
  std::memcpy(slots.data() + begin, text.data(), length);
  if (!traceback.empty() && length + 1 < room) {
    slots[begin + length++] = static_cast<std::byte>(kTracebackMark);
    const std::size_t fits = std::min({traceback.size(), room - length, kMaxTraceback});
    traceback.remove_prefix(traceback.size() - fits);
    std::memcpy(slots.data() + begin + length, traceback.data(), fits);
    length += fits;
  }
  store(slots, offsetof(RegionHeader, error_offset), begin);
  store(slots, offsetof(RegionHeader, error_bytes), static_cast<std::uint32_t>(length));
  status_word(slots).store(static_cast<std::uint32_t>(status), std::memory_order_release);
}

}  // namespace mayfly
