// What streams of a function are written as: each chunk a line of JSON, sent as a server-sent event
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
//
//   data: {"token":"may"}            POST /functions/NAME, and …/generate_stream with names around
//                                    it: {"model_name":"n","model_version":"1","token":"may"}
//   event: error                     the last one of a stream that failed after it had begun
//   data: {"error":"…","reason":"…","status":500}
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "core/wire/document.h"
#include "core/wire/size_limit.h"

namespace mayfly {

// A chunk of a function without types. Reason bad_reply for what is no line of JSON text: the
// function's process wrote it, and a line break would end the event.
Result<std::string> chunk_of(const Document& document, const SizeLimit& limit);

// As the generate extension has it: an object's fields after the model's name and version; what is
// no object is their "output".
std::string named_chunk(std::string_view json, std::string_view name, std::string_view version);

std::string to_event(std::string_view json);
// `status`: as the reply would have had it.
// For the end of an object that tells of an error: ,"traceback":["…","…"], its lines. Nothing where
// it is empty.
void append_traceback(std::string& json, std::string_view traceback);
std::string to_error_event(std::string_view message, std::string_view reason, int status,
                           std::string_view traceback = {});

}  // namespace mayfly
