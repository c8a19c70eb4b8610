#include "remote/s3_reply.h"

#include <expat.h>
#include <fmt/format.h>
#include <time.h>

#include <charconv>
#include <functional>
#include <memory>
#include <tuple>
#include <utility>

#include "core/printable.h"

namespace mayfly {
namespace {

constexpr std::size_t kDeepest = 16;
constexpr std::size_t kLongestText = 4096;  // keys have 1024 bytes, tokens are a little longer
constexpr std::size_t kMostObjects = 10'000;
constexpr std::size_t kLongestMessage = 300;

// Walks a document: told of each element's end with its path ("ListBucketResult/Contents/Key") and
// its own text.
class XmlWalk {
 public:
  using OnEnd = std::function<void(std::string_view path, std::string_view text)>;

  static Status run(std::string_view xml, const OnEnd& on_end) {
    XmlWalk walk(on_end);
    const std::unique_ptr<XML_ParserStruct, decltype(&XML_ParserFree)> parser(
        XML_ParserCreate("UTF-8"), &XML_ParserFree);
    if (parser == nullptr) return fail(Code::ResourceExhausted, "no memory to read a reply");
    walk.parser_ = parser.get();
    XML_SetUserData(parser.get(), &walk);
    XML_SetElementHandler(parser.get(), &XmlWalk::begin, &XmlWalk::end);
    XML_SetCharacterDataHandler(parser.get(), &XmlWalk::text);
    // No store sends one, and entities are what attacks on parsers are made of.
    XML_SetDoctypeDeclHandler(parser.get(), &XmlWalk::doctype, nullptr);
    if (XML_Parse(parser.get(), xml.data(), static_cast<int>(xml.size()), 1) != XML_STATUS_OK) {
      return fail(Code::DataLoss, "the object store's reply is no XML that can be read");
    }
    return {};
  }

 private:
  explicit XmlWalk(const OnEnd& on_end) : on_end_(on_end) {}

  static XmlWalk& self(void* data) { return *static_cast<XmlWalk*>(data); }
  static void begin(void* data, const XML_Char* name, const XML_Char**) {
    XmlWalk& walk = self(data);
    if (walk.ends_.size() == kDeepest) {
      XML_StopParser(walk.parser_, XML_FALSE);
      return;
    }
    walk.ends_.push_back(walk.path_.size());
    walk.path_ += (walk.path_.empty() ? "" : "/") + std::string(name).substr(0, 64);
    walk.text_.clear();
  }
  static void end(void* data, const XML_Char*) {
    XmlWalk& walk = self(data);
    walk.on_end_(walk.path_, walk.text_);
    walk.path_.resize(walk.ends_.back());
    walk.ends_.pop_back();
    walk.text_.clear();
  }
  static void text(void* data, const XML_Char* bytes, int size) {
    XmlWalk& walk = self(data);
    const std::size_t room = kLongestText - walk.text_.size();
    walk.text_.append(bytes, std::min(static_cast<std::size_t>(size), room));
  }
  static void doctype(void* data, const XML_Char*, const XML_Char*, const XML_Char*, int) {
    XML_StopParser(self(data).parser_, XML_FALSE);
  }

  const OnEnd& on_end_;
  XML_Parser parser_ = nullptr;
  std::string path_;
  std::vector<std::size_t> ends_;
  std::string text_;
};

std::unexpected<Error> malformed(std::string_view what) {
  return fail(Code::DataLoss, fmt::format("the object store's reply is not {}", what));
}

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct PageReader {
  S3Page page;
  S3Object current;
  bool seen = false;
  bool truncated = false;
  bool wrong = false;

  void operator()(std::string_view path, std::string_view text) {
    if (path == "ListBucketResult/Contents/Key") {
      current.key = text;
    } else if (path == "ListBucketResult/Contents/Size") {
      const auto size = number_of(text);
      wrong = wrong || !size;
      current.size = size.value_or(0);
    } else if (path == "ListBucketResult/Contents/LastModified") {
      const auto time = parse_s3_time(text);
      wrong = wrong || !time;
      current.modified = time.value_or(WallTime{});
    } else if (path == "ListBucketResult/Contents") {
      wrong = wrong || current.key.empty() || page.objects.size() == kMostObjects;
      if (!wrong) page.objects.push_back(std::exchange(current, {}));
    } else if (path == "ListBucketResult/NextContinuationToken") {
      page.next = text;
    } else if (path == "ListBucketResult/IsTruncated") {
      truncated = text == "true";
    } else if (path == "ListBucketResult") {
      seen = true;
    }
  }
};

}  // namespace

Result<S3Page> parse_s3_page(std::string_view xml) {
  PageReader reader;
  TRY(XmlWalk::run(xml, std::ref(reader)));
  if (!reader.seen || reader.wrong || (reader.truncated && reader.page.next.empty()))
    return malformed("a list of objects");
  if (!reader.truncated) reader.page.next.clear();
  return std::move(reader.page);
}

Result<std::vector<S3Upload>> parse_s3_uploads(std::string_view xml) {
  std::vector<S3Upload> uploads;
  S3Upload current;
  bool seen = false;
  TRY(XmlWalk::run(xml, [&](std::string_view path, std::string_view text) {
    if (path == "ListMultipartUploadsResult/Upload/Key") {
      current.key = text;
    } else if (path == "ListMultipartUploadsResult/Upload/UploadId") {
      current.id = text;
    } else if (path == "ListMultipartUploadsResult/Upload") {
      if (uploads.size() < kMostObjects) uploads.push_back(std::exchange(current, {}));
    } else if (path == "ListMultipartUploadsResult") {
      seen = true;
    }
  }));
  if (!seen) return malformed("a list of uploads");
  return uploads;
}

Result<std::string> parse_s3_upload_id(std::string_view xml) {
  std::string id;
  TRY(XmlWalk::run(xml, [&](std::string_view path, std::string_view text) {
    if (path == "InitiateMultipartUploadResult/UploadId") id = text;
  }));
  if (id.empty()) return malformed("the beginning of an upload");
  return id;
}

Status check_s3_completion(std::string_view xml) {
  bool complete = false;
  TRY(XmlWalk::run(xml, [&](std::string_view path, std::string_view) {
    complete = complete || path == "CompleteMultipartUploadResult";
  }));
  if (complete) return {};
  const S3Refusal refusal = parse_s3_refusal(xml);
  return fail(Code::Unavailable, fmt::format("the upload could not be completed: {} {}",
                                             refusal.code, refusal.message));
}

S3Refusal parse_s3_refusal(std::string_view xml) {
  S3Refusal refusal;
  // As far as it can be read.
  std::ignore = XmlWalk::run(xml, [&](std::string_view path, std::string_view text) {
    if (path == "Error/Code") refusal.code = printable(text, 64);
    if (path == "Error/Message") refusal.message = printable(text, kLongestMessage);
  });
  return refusal;
}

std::optional<WallTime> parse_s3_time(std::string_view text) {
  for (const char* form : {"%Y-%m-%dT%H:%M:%S", "%a, %d %b %Y %H:%M:%S GMT"}) {
    const std::string copy(text.substr(0, 64));
    std::tm parts{};
    if (::strptime(copy.c_str(), form, &parts) == nullptr) continue;
    // Nanoseconds end in 2262, and no object is older than its epoch.
    constexpr std::time_t kYear2200 = 7'258'118'400;
    const std::time_t seconds = ::timegm(&parts);
    if (seconds < 0 || seconds > kYear2200) return std::nullopt;
    return WallTime(std::chrono::seconds(seconds));
  }
  return std::nullopt;
}

}  // namespace mayfly
