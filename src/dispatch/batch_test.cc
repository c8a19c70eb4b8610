// Requests laid behind one another, and cut apart again.
#include "dispatch/batch.h"

#include <cstring>
#include <string>
#include <vector>

#include "core/batching.h"
#include "core/reason.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

std::vector<std::byte> floats(const std::vector<float>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<std::byte> texts(const std::vector<std::string>& values) {
  std::vector<std::byte> bytes;
  for (const std::string& value : values) {
    const auto length = static_cast<std::uint32_t>(value.size());
    bytes.resize(bytes.size() + sizeof length);
    std::memcpy(bytes.data() + bytes.size() - sizeof length, &length, sizeof length);
    for (const char c : value) bytes.push_back(static_cast<std::byte>(c));
  }
  return bytes;
}

InputPlan plan_of(std::uint32_t index, DataType type, Shape shape, std::size_t bytes) {
  return {.index = index, .type = type, .shape = std::move(shape), .bytes = bytes};
}

RequestLayout layout_of(std::vector<InputPlan> inputs, std::vector<std::uint32_t> outputs = {0}) {
  return RequestLayout::plan(std::move(inputs), std::move(outputs)).value();
}

// Rows of two numbers and a text each.
RequestMemory request_of(const std::vector<float>& numbers, const std::vector<std::string>& words) {
  const auto rows = static_cast<std::int64_t>(words.size());
  const auto number_bytes = floats(numbers);
  const auto word_bytes = texts(words);
  RequestMemory memory =
      RequestMemory::allocate(layout_of({plan_of(0, DataType::Fp32, {rows, 2}, number_bytes.size()),
                                         plan_of(1, DataType::Bytes, {rows}, word_bytes.size())}),
                              0)
          .value();
  std::ranges::copy(number_bytes, memory.input(0).begin());
  std::ranges::copy(word_bytes, memory.input(1).begin());
  return memory;
}

std::vector<std::byte> copy_of(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

Signature signature_of(Shape input, Shape output) {
  return {.inputs = {{.name = "x", .type = DataType::Fp32, .shape = std::move(input)}},
          .outputs = {{.name = "y", .type = DataType::Fp32, .shape = std::move(output)}}};
}

}  // namespace

TEST_CASE("requests laid behind one another are one request of all their rows") {
  RequestMemory one = request_of({1, 2}, {"a"});
  RequestMemory two = request_of({3, 4, 5, 6}, {"bc", ""});
  const std::vector<RequestMemory*> members = {&one, &two};
  RequestMemory whole = join_requests(members, 0).value();
  CHECK(whole.layout().inputs()[0].shape == Shape{3, 2});
  CHECK(whole.layout().inputs()[1].shape == Shape{3});
  CHECK(copy_of(whole.input(0)) == floats({1, 2, 3, 4, 5, 6}));
  CHECK(copy_of(whole.input(1)) == texts({"a", "bc", ""}));
  CHECK(copy_of(one.input(0)) == floats({1, 2}));  // they keep what they have
}

TEST_CASE("a reply comes apart by rows, texts too") {
  const auto scores = floats({1, 2, 3, 4, 5, 6});
  const auto words = texts({"x", "", "yz"});
  const Reply whole{
      .outputs = {{0, DataType::Fp32, {3, 2}, scores}, {1, DataType::Bytes, {3, 1}, words}},
      .memory = nullptr};
  const std::vector<std::uint64_t> rows = {1, 2};
  const auto parts = divide(whole, rows);
  REQUIRE(parts.has_value());
  REQUIRE(parts->size() == 2);
  CHECK(parts->at(0).outputs[0].shape == Shape{1, 2});
  CHECK(copy_of(parts->at(0).outputs[0].bytes) == floats({1, 2}));
  CHECK(copy_of(parts->at(0).outputs[1].bytes) == texts({"x"}));
  CHECK(parts->at(1).outputs[0].shape == Shape{2, 2});
  CHECK(copy_of(parts->at(1).outputs[0].bytes) == floats({3, 4, 5, 6}));
  CHECK(copy_of(parts->at(1).outputs[1].bytes) == texts({"", "yz"}));
}

TEST_CASE("a reply without one row for each row is not cut apart") {
  const auto scores = floats({1, 2, 3});
  const std::vector<std::uint64_t> rows = {1, 2};
  const auto undividable = [&](DataType type, Shape shape, std::span<const std::byte> bytes) {
    const Reply whole{.outputs = {{0, type, std::move(shape), bytes}}, .memory = nullptr};
    return !divide(whole, rows).has_value();
  };
  CHECK_FALSE(undividable(DataType::Fp32, {3}, scores));
  CHECK(undividable(DataType::Fp32, {1}, std::span(scores).first(4)));
  CHECK(undividable(DataType::Fp32, {}, std::span(scores).first(4)));
  CHECK(undividable(DataType::Bytes, {3}, texts({"a", "b"})));  // ends too early
  CHECK(undividable(DataType::Bytes, {3}, texts({"a", "b", "c", "d"})));
}

TEST_CASE("only requests of rows, alike in all but their number, are mixed") {
  const auto rows = [](std::vector<InputPlan> inputs) {
    return rows_of(layout_of(std::move(inputs)));
  };
  CHECK(rows({plan_of(0, DataType::Fp32, {3, 2}, 24)}) == 3);
  CHECK(rows({}) == 0);
  CHECK(rows({plan_of(0, DataType::Fp32, {}, 4)}) == 0);
  CHECK(rows({plan_of(0, DataType::Fp32, {0, 2}, 0)}) == 0);
  CHECK(rows({plan_of(0, DataType::Fp32, {2}, 8), plan_of(1, DataType::Fp32, {3}, 12)}) == 0);
  InputPlan image = plan_of(0, DataType::Uint8, {9}, 9);
  image.form = InputForm::EncodedImage;
  CHECK(rows({image}) == 0);

  const RequestLayout base = layout_of({plan_of(0, DataType::Fp32, {1, 2}, 8)});
  CHECK(alike(base, layout_of({plan_of(0, DataType::Fp32, {5, 2}, 40)})));
  CHECK_FALSE(alike(base, layout_of({plan_of(0, DataType::Fp32, {1, 3}, 12)})));
  CHECK_FALSE(alike(base, layout_of({plan_of(0, DataType::Int32, {1, 2}, 8)})));
  CHECK_FALSE(alike(base, layout_of({plan_of(1, DataType::Fp32, {1, 2}, 8)})));
  CHECK_FALSE(alike(base, layout_of({plan_of(0, DataType::Fp32, {1, 2, 1}, 8)})));
  CHECK_FALSE(alike(base, layout_of({plan_of(0, DataType::Fp32, {1, 2}, 8)}, {1})));
}

TEST_CASE("a model without a batch dimension is told apart when it is published") {
  CHECK(check_batchable(signature_of({-1, 4}, {-1})).has_value());
  for (const auto& [input, output] :
       {std::pair<Shape, Shape>{{1, 4}, {-1}}, {{-1, 4}, {1}}, {{}, {-1}}, {{-1, 4}, {}}}) {
    const auto checked = check_batchable(signature_of(input, output));
    REQUIRE_FALSE(checked.has_value());
    CHECK(checked.error().reason == reason::kInvalidManifest);
    CHECK(checked.error().message.find("batch dimension") != std::string::npos);
  }
}

}  // namespace mayfly
