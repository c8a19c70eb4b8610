#include "serving/response_cache.h"

#include <cstring>

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr VersionKey kVersion{.function = {7}, .version = 1};

RequestMemory request_of(std::vector<float> values, Shape shape,
                         std::vector<std::uint32_t> outputs) {
  InputPlan input{.index = 0,
                  .type = DataType::Fp32,
                  .shape = std::move(shape),
                  .bytes = values.size() * sizeof(float)};
  RequestMemory memory =
      RequestMemory::allocate(RequestLayout::plan({input}, std::move(outputs)).value(), 0).value();
  std::memcpy(memory.input(0).data(), values.data(), input.bytes);
  return memory;
}

Digest key(std::vector<float> values, Shape shape, std::vector<std::uint32_t> outputs = {0},
           VersionKey version = kVersion) {
  RequestMemory request = request_of(std::move(values), std::move(shape), std::move(outputs));
  return ResponseCache(mib(1)).key_of(version, request).value();
}

Reply reply_of(std::vector<std::byte>& bytes) {
  const auto extent = static_cast<std::int64_t>(bytes.size());
  return {.outputs = {{0, DataType::Uint8, {extent}, bytes}}, .memory = nullptr};
}

}  // namespace

TEST_CASE("only the same question to the same version has the same key") {
  const Digest base = key({1, 2}, {1, 2});
  CHECK(key({1, 2}, {1, 2}) == base);
  CHECK(key({1, 3}, {1, 2}) != base);
  CHECK(key({1, 2}, {2, 1}) != base);
  CHECK(key({1, 2}, {1, 2}, {1}) != base);
  CHECK(key({1, 2}, {1, 2}, {0, 1}) != base);
  CHECK(key({1, 2}, {1, 2}, {0}, {.function = {7}, .version = 2}) != base);
  CHECK(key({1, 2}, {1, 2}, {0}, {.function = {8}, .version = 1}) != base);
  RequestMemory large = request_of(std::vector<float>(20'000), {20'000}, {0});
  CHECK_FALSE(ResponseCache(mib(100)).key_of(kVersion, large));
  RequestMemory small = request_of({1}, {1}, {0});
  CHECK_FALSE(ResponseCache(Bytes{}).key_of(kVersion, small));  // switched off
}

TEST_CASE("a reply is kept in memory of its own until there is no room") {
  ResponseCache cache(Bytes{5000});
  std::vector<std::byte> bytes(1000, std::byte{1});
  const Digest first = key({1}, {1});
  CHECK_FALSE(cache.find(first));
  cache.put(first, {7}, reply_of(bytes));
  bytes.assign(1000, std::byte{2});  // what the instance's memory becomes
  const auto found = cache.find(first);
  REQUIRE(found);
  CHECK(found->outputs[0].shape == Shape{1000});
  CHECK(found->outputs[0].bytes.front() == std::byte{1});
  cache.put(key({2}, {1}), {7}, reply_of(bytes));
  cache.put(key({3}, {1}), {8}, reply_of(bytes));
  CHECK(cache.find(first));  // used: it stays
  cache.put(key({4}, {1}), {8}, reply_of(bytes));
  CHECK_FALSE(cache.find(key({2}, {1})));
  CHECK(cache.find(first));
  CHECK(cache.counts().entries == 3);
  CHECK(cache.counts().evicted == 1);
  CHECK(cache.counts().hits == 3);
  CHECK(cache.counts().misses == 2);
  CHECK(cache.counts().bytes.count <= 5000);
  cache.forget({8});
  CHECK(cache.counts().entries == 1);
  CHECK(found->outputs[0].bytes.back() == std::byte{1});  // whoever has it keeps it
}

TEST_CASE("what is larger than the cache is not kept") {
  ResponseCache cache(Bytes{2000});
  std::vector<std::byte> bytes(1600);
  cache.put(key({1}, {1}), {7}, reply_of(bytes));
  CHECK(cache.counts().entries == 0);
}
