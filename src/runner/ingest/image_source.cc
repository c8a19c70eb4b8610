// Images in a zip, a folder a class: rows of pixels, all of one size, and their label.
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <span>
#include <utility>

#include "base/utf8.h"
#include "core/reason.h"
#include "core/wire/image_request.h"
#include "runner/image/image.h"
#include "runner/ingest/mapped_file.h"
#include "runner/ingest/row_source.h"
#include "runner/ingest/zip_archive.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxImageFile = std::size_t{64} << 20U;
constexpr std::size_t kPixelsOfBlock = std::size_t{32} << 20U;

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// The folder that the file lies in; empty: none.
std::string_view class_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {};
  return file_name(path.substr(0, slash));
}

// What operating systems leave in folders.
bool is_litter(std::string_view path) {
  return path.starts_with("__MACOSX/") || file_name(path).starts_with('.') ||
         file_name(path) == "Thumbs.db";
}

class ImageSource final : public RowSource {
 public:
  ImageSource(MappedFile file, std::vector<std::uint32_t> shape)
      : file_(std::move(file)), shape_(std::move(shape)) {}

  Status open() {
    entries_ = TRY(read_zip(file_.bytes()));
    std::erase_if(entries_,
                  [](const ZipEntry& entry) { return entry.is_folder() || is_litter(entry.name); });
    std::ranges::sort(entries_, {}, &ZipEntry::name);
    if (entries_.empty()) return refuse(reason::kInvalidInput, "the zip archive has no images");
    if (shape_.empty()) TRY(take_first_shape());
    columns_ = {{.name = "image", .type = ColumnType::Image, .shape = shape_},
                {.name = "label", .type = ColumnType::Category}};
    return {};
  }

  Result<bool> next(SourceBlock& block) override {
    texts_.clear();
    block.clear(columns_.size());
    std::size_t bytes = 0;
    while (next_ < entries_.size() && bytes < kPixelsOfBlock &&
           block.rows.size() + block.failures.size() < kBlockRows) {
      const ZipEntry& entry = entries_[next_++];
      bytes += add_image(block, entry);
    }
    return !block.rows.empty() || !block.failures.empty();
  }

  const std::vector<SourceColumn>& columns() const override { return columns_; }
  std::uint64_t done_bytes() const override {
    const double share = static_cast<double>(next_) / static_cast<double>(entries_.size());
    return static_cast<std::uint64_t>(share * static_cast<double>(total_bytes()));
  }
  std::uint64_t total_bytes() const override { return file_.bytes().size(); }

 private:
  Result<DecodedImage> decode(const ZipEntry& entry, const ImageInput& input) const {
    const std::string file = TRY(read_entry(file_.bytes(), entry, kMaxImageFile));
    return decode_image(std::as_bytes(std::span(file)), input);
  }

  Status take_first_shape() {
    const ImageInput any{.order = ChannelOrder::Last, .height = {}, .width = {}, .rank = 3};
    for (const ZipEntry& entry : entries_) {
      const auto image = decode(entry, any);
      if (!image) continue;
      const auto height = static_cast<std::uint64_t>(image->shape[0]);
      const auto width = static_cast<std::uint64_t>(image->shape[1]);
      if (height > kMaxImageSide || width > kMaxImageSide) {
        return refuse(reason::kInvalidInput,
                      fmt::format("the first image is {} × {}: name a size of at most {} × {}",
                                  height, width, kMaxImageSide, kMaxImageSide));
      }
      shape_ = {static_cast<std::uint32_t>(height), static_cast<std::uint32_t>(width), 3};
      return {};
    }
    return refuse(reason::kInvalidInput,
                  "the zip archive has no PNG or JPEG file that can be read");
  }

  // The bytes of its pixels.
  std::size_t add_image(SourceBlock& block, const ZipEntry& entry) {
    const SourceRow at{.row = ++row_};
    const auto failed = [&](std::string why) {
      block.failures.push_back({.at = at,
                                .error = std::move(why),
                                .input = to_utf8(entry.name.substr(0, kMaxShownInput))});
      return std::size_t{0};
    };
    const std::string_view label = class_of(entry.name);
    if (label.empty()) return failed("it lies in no folder, which would name its class");
    const ImageInput input{.order = ChannelOrder::Last,
                           .channels = shape_[2],
                           .height = shape_[0],
                           .width = shape_[1],
                           .rank = 3};
    auto image = decode(entry, input);
    if (!image) return failed(std::move(image).error().message);
    const std::size_t wanted = std::size_t{shape_[0]} * shape_[1] * shape_[2];
    if (image->bytes.size() != wanted)
      return failed("its pixels are not as many as they should be");
    const std::string& pixels = texts_.emplace_back(
        reinterpret_cast<const char*>(image->bytes.data()), image->bytes.size());
    block.rows.push_back(at);
    block.columns[0].push_back({.kind = CellKind::Text, .text = pixels});
    block.columns[1].push_back({.kind = CellKind::Text, .text = label});
    return wanted;
  }

  MappedFile file_;
  std::vector<std::uint32_t> shape_;
  std::vector<ZipEntry> entries_;
  std::vector<SourceColumn> columns_;
  std::deque<std::string> texts_;  // what the cells of the block point into
  std::size_t next_ = 0;
  std::uint64_t row_ = 0;
};

}  // namespace

Result<std::unique_ptr<RowSource>> open_image_source(const Path& file,
                                                     std::vector<std::uint32_t> shape) {
  auto source = std::make_unique<ImageSource>(TRY(MappedFile::open(file)), std::move(shape));
  TRY(source->open());
  return source;
}

}  // namespace mayfly
