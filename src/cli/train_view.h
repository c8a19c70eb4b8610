// Trainings as the terminal shows them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/node_client.h"

namespace mayfly {

// What is going to be done, before it is: of a job of the kind train.
std::string plan_text(const CliJson& job);
// How it ended: outcome, figures with their bounds, baselines, what it cost.
std::string training_text(const CliJson& job);

// A curve of so many characters: the least and the greatest value beside it.
using CurvePoint = std::pair<double, double>;
struct CurveSize {
  std::size_t width = 64, height = 10;
};
std::string curve_text(const std::vector<CurvePoint>& points, CurveSize size = {});

// 0, or how far from its goal it ended: docs/cli.md.
int exit_of_training(const CliJson& job);

}  // namespace mayfly
