// Datasets as the terminal shows them.
#pragma once

#include <string>

#include "cli/node_client.h"

namespace mayfly {

// What an ingest's job made: rows, bad rows with their lines, notes.
std::string ingest_text(const CliJson& result);
// Of an erasure: which snapshots have some of its rows still; empty: none.
std::string shared_text(const std::string& name, const CliJson& erased);
// A snapshot with a line a column: type, missing and distinct values, figures, a small histogram.
std::string snapshot_text(const CliJson& snapshot);
std::string dataset_text(const CliJson& dataset);

// Shares or counts as a line of bars: "▁▂█".
std::string bars(const CliJson& counts);
// "2.5", "1.23e+09": for people.
std::string short_number(const CliJson& number);

}  // namespace mayfly
