// What publishing measured of a version, as it stands in the registry's report: JSON for people, of
// which the data plane reads a few figures as hints.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "publish/publisher.h"

namespace mayfly {

struct Measured {
  Duration load{};      // file to warmed session
  Bytes private_bytes;  // of a session that ran
  std::uint64_t artifact_bytes = 0;
  std::uint64_t output_bytes = 0;  // of one run
  // Of a function, what it has of predict, run and train; empty: it was not noted.
  std::vector<std::string> entries = {};
};

std::string measured_json(const Published& published);
Measured parse_measured(std::string_view json);  // zeros where a figure is missing

}  // namespace mayfly
