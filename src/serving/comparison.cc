#include "serving/comparison.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/wire/number.h"

namespace mayfly {
namespace {

bool is_real(DataType type) {
  return type == DataType::Fp16 || type == DataType::Bf16 || type == DataType::Fp32 ||
         type == DataType::Fp64;
}

template <typename T>
T read_as(std::span<const std::byte> bytes, std::size_t i) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);
  return value;
}

// Not finite differences that are no difference count as 0.
double distance(double a, double b) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return 0;
  const double apart = std::abs(a - b);
  return std::isnan(apart) ? std::numeric_limits<double>::infinity() : apart;
}

std::size_t largest(const KeptAnswer::Output& output, std::span<const std::byte> bytes,
                    std::size_t row, std::size_t width) {
  std::size_t best = row * width;
  for (std::size_t i = best + 1; i < (row + 1) * width; ++i) {
    if (number_at(output.type, bytes, i) > number_at(output.type, bytes, best)) best = i;
  }
  return best;
}

void compare_reals(const KeptAnswer::Output& answer, std::span<const std::byte> shadow,
                   Difference& difference) {
  const std::size_t count = answer.bytes.size() / element_size(answer.type);
  for (std::size_t i = 0; i < count; ++i) {
    const double a = number_at(answer.type, answer.bytes, i);
    const double apart = distance(a, number_at(answer.type, shadow, i));
    difference.max_difference = std::max(difference.max_difference, apart);
    const bool near = std::isfinite(a) && apart <= kAbsolute + kRelative * std::abs(a);
    if (apart != 0 && !near) difference.agrees = false;
  }
  const auto width = answer.shape.size() == 2 ? static_cast<std::size_t>(answer.shape[1]) : 0;
  for (std::size_t row = 0; width >= 2 && row < count / width; ++row) {
    ++difference.labels;
    const bool same =
        largest(answer, answer.bytes, row, width) == largest(answer, shadow, row, width);
    difference.labels_agreed += same ? 1 : 0;
  }
}

// BYTES elements are a length and that many bytes; equal elements before `at` keep both in step.
void compare_texts(std::span<const std::byte> answer, std::span<const std::byte> shadow,
                   Difference& difference) {
  const auto take = [](std::span<const std::byte>& rest) {
    if (rest.size() < sizeof(std::uint32_t)) return std::exchange(rest, {});
    const std::size_t wanted = sizeof(std::uint32_t) + read_as<std::uint32_t>(rest, 0);
    const auto element = rest.first(std::min(wanted, rest.size()));
    rest = rest.subspan(element.size());
    return element;
  };
  while (!answer.empty()) {
    const auto a = take(answer);
    const auto b = take(shadow);
    ++difference.labels;
    const bool same = std::ranges::equal(a, b);
    difference.labels_agreed += same ? 1 : 0;
    difference.agrees = difference.agrees && same;
  }
}

void compare_labels(const KeptAnswer::Output& answer, std::span<const std::byte> shadow,
                    Difference& difference) {
  const std::size_t size = element_size(answer.type);
  for (std::size_t at = 0; at < answer.bytes.size(); at += size) {
    ++difference.labels;
    const bool same = std::memcmp(answer.bytes.data() + at, shadow.data() + at, size) == 0;
    difference.labels_agreed += same ? 1 : 0;
    difference.agrees = difference.agrees && same;
  }
}

void compare_output(const KeptAnswer::Output& answer, const OutputView& shadow,
                    Difference& difference) {
  const bool alike =
      answer.index == shadow.index && answer.type == shadow.type && answer.shape == shadow.shape;
  if (!alike || (answer.type != DataType::Bytes && answer.bytes.size() != shadow.bytes.size())) {
    difference.agrees = false;
    difference.max_difference = std::numeric_limits<double>::infinity();
  } else if (answer.type == DataType::Bytes) {
    compare_texts(answer.bytes, shadow.bytes, difference);
  } else if (is_real(answer.type)) {
    compare_reals(answer, shadow.bytes, difference);
  } else {
    compare_labels(answer, shadow.bytes, difference);
  }
}

}  // namespace

KeptAnswer keep_answer(std::span<const OutputView> outputs) {
  KeptAnswer kept;
  for (const OutputView& output : outputs) {
    kept.outputs.push_back({.index = output.index,
                            .type = output.type,
                            .shape = output.shape,
                            .bytes = {output.bytes.begin(), output.bytes.end()}});
  }
  return kept;
}

Difference compare(const KeptAnswer& answer, std::span<const OutputView> shadow) {
  Difference difference;
  if (answer.outputs.size() != shadow.size()) {
    difference.agrees = false;
    difference.max_difference = std::numeric_limits<double>::infinity();
    return difference;
  }
  for (std::size_t i = 0; i < shadow.size(); ++i)
    compare_output(answer.outputs[i], shadow[i], difference);
  return difference;
}

void Comparison::add(const Difference& difference) {
  ++compared;
  agreed += difference.agrees ? 1 : 0;
  labels += difference.labels;
  labels_agreed += difference.labels_agreed;
  max_difference = std::max(max_difference, difference.max_difference);
}

}  // namespace mayfly
