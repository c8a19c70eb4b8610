#include "core/wire/classification.h"

#include <cmath>
#include <cstring>
#include <string>

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

std::vector<std::string> texts(const Classified& classified) {
  std::vector<std::string> list;
  for (std::size_t at = 0; at < classified.bytes.size();) {
    std::uint32_t length = 0;
    std::memcpy(&length, classified.bytes.data() + at, sizeof(length));
    at += sizeof(length);
    list.emplace_back(reinterpret_cast<const char*>(classified.bytes.data()) + at, length);
    at += length;
  }
  return list;
}

template <typename T>
Classified classified(DataType type, const Shape& shape, const std::vector<T>& values,
                      std::uint64_t classes) {
  return classify(type, shape, std::as_bytes(std::span(values)), classes);
}

}  // namespace

TEST_CASE("each row's highest values come first, with their places") {
  const std::vector<float> scores = {0.25F, 0.5F, 0.125F, 3, 1, 2};
  const Classified top = classified(DataType::Fp32, {2, 3}, scores, 2);
  CHECK(top.shape == Shape{2, 2});
  CHECK(texts(top) == std::vector<std::string>{"0.5:1", "0.25:0", "3:0", "2:2"});
}

TEST_CASE("of equal values the first wins, and what is no number comes last") {
  const std::vector<double> scores = {NAN, 1, 1, -INFINITY};
  CHECK(texts(classified(DataType::Fp64, {4}, scores, 4)) ==
        std::vector<std::string>{"1:1", "1:2", "-inf:3", "nan:0"});
}

TEST_CASE("more classes than there are values are all of them, and integers stay exact") {
  const std::vector<std::int64_t> scores = {-9007199254740993, 9007199254740993};
  const Classified all = classified(DataType::Int64, {2}, scores, 10);
  CHECK(all.shape == Shape{2});
  CHECK(texts(all) == std::vector<std::string>{"9007199254740993:1", "-9007199254740993:0"});
}

TEST_CASE("half floats are judged by what they stand for") {
  const std::vector<std::uint16_t> scores = {0xC000, 0x3C00};  // -2, 1
  CHECK(texts(classified(DataType::Fp16, {2}, scores, 1)) == std::vector<std::string>{"1:1"});
}

TEST_CASE("a scalar is one class, and an empty row has none") {
  const std::vector<std::uint8_t> one = {7};
  CHECK(classified(DataType::Uint8, {}, one, 3).shape == Shape{1});
  CHECK(texts(classified(DataType::Uint8, {}, one, 3)) == std::vector<std::string>{"7:0"});
  CHECK(classified<float>(DataType::Fp32, {2, 0}, {}, 3).shape == Shape{2, 0});
}
