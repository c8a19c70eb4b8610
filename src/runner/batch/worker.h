// The worker of a slice: reads rows, asks the server for their predictions, writes them in order
// (runner/report/batch_job.h has the protocol). Merging what slices wrote.
#pragma once

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "runner/report/batch_job.h"

namespace mayfly {

struct TableFolders {
  Path source = "/source";
  Path work = "/work";
};

// Leaves part, errors.jsonl and slice.json. What the file or the function is to blame for stands in
// slice.json; an error is the machine's or the server's. There is no part where the slice was
// refused before its first row.
Status run_batch(int control_fd, const BatchJob& job, const TableFolders& folders,
                 const Clock& clock);

// Leaves output, errors.jsonl and slice.json.
Status run_merge(const MergeJob& job, const TableFolders& folders);

// What a refusal is and what an error: invalid files and functions that do not fit them.
bool is_tables_fault(const Error& error);
Status write_slice_end(const Path& work, const SliceEnd& end);

}  // namespace mayfly
