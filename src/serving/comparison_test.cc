#include "serving/comparison.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<std::byte> texts(const std::vector<std::string>& values) {
  std::vector<std::byte> bytes;
  for (const std::string& value : values) {
    const auto length = static_cast<std::uint32_t>(value.size());
    const auto* head = reinterpret_cast<const std::byte*>(&length);
    bytes.insert(bytes.end(), head, head + sizeof length);
    for (const char c : value) bytes.push_back(static_cast<std::byte>(c));
  }
  return bytes;
}

Difference compare_one(DataType type, const Shape& shape, const std::vector<std::byte>& a,
                       const std::vector<std::byte>& b) {
  const std::vector<OutputView> answer = {{0, type, shape, a}};
  const std::vector<OutputView> shadow = {{0, type, shape, b}};
  return compare(keep_answer(answer), shadow);
}

Difference floats(const Shape& shape, const std::vector<float>& a, const std::vector<float>& b) {
  return compare_one(DataType::Fp32, shape, bytes_of(a), bytes_of(b));
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("numbers agree within the tolerance and tell their largest difference") {
  const Difference close = floats({3}, {1, 2, 1000}, {1.0005F, 2, 1000.5F});
  CHECK(close.agrees);
  CHECK(close.max_difference == doctest::Approx(0.5));
  CHECK(close.labels == 0);
  const Difference far = floats({2}, {1, 2}, {1, 2.5F});
  CHECK_FALSE(far.agrees);
  CHECK(far.max_difference == doctest::Approx(0.5));
}

TEST_CASE("rows of scores are labels by their largest") {
  const Difference scores = floats({2, 2}, {0.9F, 0.1F, 0.6F, 0.4F}, {0.8F, 0.2F, 0.4F, 0.6F});
  CHECK(scores.labels == 2);
  CHECK(scores.labels_agreed == 1);
  CHECK_FALSE(scores.agrees);
}

TEST_CASE("what is not finite agrees only with itself") {
  CHECK(floats({2}, {kNan, kInf}, {kNan, kInf}).agrees);
  CHECK_FALSE(floats({1}, {1}, {kNan}).agrees);
  CHECK(std::isinf(floats({1}, {1}, {kNan}).max_difference));
  CHECK_FALSE(floats({1}, {kInf}, {-kInf}).agrees);
}

TEST_CASE("integers and texts are labels, each by itself") {
  const auto integers = compare_one(DataType::Int64, {3}, bytes_of<std::int64_t>({1, 2, 3}),
                                    bytes_of<std::int64_t>({1, 2, 4}));
  CHECK(integers.labels == 3);
  CHECK(integers.labels_agreed == 2);
  CHECK_FALSE(integers.agrees);
  const auto words =
      compare_one(DataType::Bytes, {3}, texts({"setosa", "a", ""}), texts({"virginica", "a", ""}));
  CHECK(words.labels == 3);
  CHECK(words.labels_agreed == 2);
  // A length that lies, or an answer that ends early, is a difference and no more.
  auto cut = texts({"setosa"});
  cut.resize(cut.size() - 3);
  CHECK_FALSE(compare_one(DataType::Bytes, {1}, texts({"setosa"}), cut).agrees);
  CHECK_FALSE(compare_one(DataType::Bytes, {1}, texts({"setosa"}), {}).agrees);
}

TEST_CASE("other shapes, types or numbers of outputs are a difference") {
  const auto one = bytes_of<float>({1});
  const std::vector<OutputView> answer = {{0, DataType::Fp32, {1}, one}};
  const std::vector<OutputView> wider = {{0, DataType::Fp32, {1, 1}, one}};
  const std::vector<OutputView> typed = {{0, DataType::Int32, {1}, one}};
  CHECK_FALSE(compare(keep_answer(answer), wider).agrees);
  CHECK_FALSE(compare(keep_answer(answer), typed).agrees);
  CHECK_FALSE(compare(keep_answer(answer), {}).agrees);
  CHECK(compare(keep_answer(answer), answer).agrees);
}

TEST_CASE("comparisons add up") {
  Comparison sum;
  sum.add({.agrees = true, .max_difference = 0.1, .labels = 2, .labels_agreed = 2});
  sum.add({.agrees = false, .max_difference = 3, .labels = 1, .labels_agreed = 0});
  CHECK(sum.compared == 2);
  CHECK(sum.agreed == 1);
  CHECK(sum.labels == 3);
  CHECK(sum.labels_agreed == 2);
  CHECK(sum.max_difference == 3);
}
