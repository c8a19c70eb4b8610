// Publishing a Python function, inside its jail: what was uploaded at `source` becomes the folder
// of runner/python_function.h at `work`/out.
//
//   read → import → try → fork → seal
//
// The function is imported in a child of the job, tried there on its example, and forked there as a
// template forks its instances: what does not survive that (threads, handles of packages) is found
// here and not by a request. Such a function is imported by each instance anew.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "runner/publish.h"

namespace mayfly {

Result<PublishOutcome> publish_function(const PublishJob& job, const Path& source, const Path& work,
                                        const PublishProgress& progress);

}  // namespace mayfly
