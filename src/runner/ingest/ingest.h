// Foreign files become a part (runner/report/ingest_job.h has what is asked and what is left).
//
// The files are read twice: first to see of what types their columns are, then to convert, split,
// summarise and write the rows. Memory does not grow with the files.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "runner/report/ingest_job.h"

namespace mayfly {

struct IngestFolders {
  Path source = "/source";
  Path work = "/work";
};

// Leaves report.json. What the files are to blame for stands there; an error is the machine's or
// the server's. `control_fd` is told of progress.
Status run_ingest(int control_fd, const IngestJob& job, const IngestFolders& folders);

}  // namespace mayfly
