// Jobs over tables, inside the jail of a job: a slice of batch prediction, joining what slices
// wrote (runner/report/batch_job.h), or taking foreign files into a data set
// (runner/report/ingest_job.h). libmayfly-batch.so does them; it is opened in such a jail, never
// before.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly {

bool is_table_job(std::string_view request_json);
Status run_table_job(int control_fd, std::string_view request_json);

// What the library exports: false and a complaint when there is no result, which is the machine's
// fault and not the table's.
using TableJobEntry = bool (*)(int control_fd, const std::string& request, std::string* complaint);
inline constexpr const char* kTableJobEntry = "mayfly_run_table_job";
inline constexpr const char* kTableLibrary = "/runtime/libmayfly-batch.so";

}  // namespace mayfly
