// Whose name an object store is asked in: a file in the form of ~/.aws/credentials, or the
// variables that every S3 tool knows. They stand in no log and no answer.
#pragma once

#include <optional>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "remote/sigv4.h"

namespace mayfly {

// The section [default], or the only one:
//
//   [default]
//   aws_access_key_id = AKIA…
//   aws_secret_access_key = …
//   aws_session_token = …          where there is one
//
// invalid_setting names what is missing, and no value.
Result<S3Credentials> parse_s3_credentials(std::string_view text);

// Of the file, which is read each time, so that new credentials count from then on; without one,
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of the environment.
Result<S3Credentials> read_s3_credentials(const Path& file);

}  // namespace mayfly
