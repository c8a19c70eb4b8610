#include "runner/dataset/npy.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

std::string file_of(std::string_view dictionary, std::string_view data, char version = 1) {
  std::string text(dictionary);
  while ((text.size() + (version == 1 ? 11 : 13)) % 64 != 0) text += ' ';
  text += '\n';
  std::string file = std::string("\x93NUMPY", 6) + version + '\0';
  file += {static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  if (version == 2) file += std::string(2, '\0');
  return file + text + std::string(data);
}

std::string why_not(std::string_view file) {
  const auto parsed = parse_npy(file);
  REQUIRE_FALSE(parsed.has_value());
  CHECK(parsed.error().code == Code::InvalidArgument);
  return parsed.error().message;
}

}  // namespace

TEST_CASE("what is written is read back, and is what NumPy's format says") {
  const TempDir folder = TempDir::create().value();
  const Path path = folder.path() / "c0.npy";
  std::vector<double> values;
  {
    auto writer = NpyWriter::create(path, NpyType::Float64, {}).value();
    for (int batch = 0; batch < 100; ++batch) {
      std::vector<double> some(1000, batch + 0.5);
      REQUIRE(writer.append<double>(some).has_value());
      values.insert(values.end(), some.begin(), some.end());
    }
    REQUIRE(writer.close().has_value());
    CHECK(writer.rows() == 100'000);
  }
  const auto column = NpyColumn::open(path);
  REQUIRE(column.has_value());
  CHECK(column->rows() == 100'000);
  CHECK(std::ranges::equal(column->as<double>(), values));
  const std::string bytes = read_file(path).value();
  CHECK(bytes.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
  CHECK(bytes.contains("{'descr': '<f8', 'fortran_order': False, 'shape': (100000,), }"));
  CHECK(parse_npy(bytes)->offset % 64 == 0);
}

TEST_CASE("rows may have a shape of their own, and there may be none") {
  const TempDir folder = TempDir::create().value();
  {
    auto images = NpyWriter::create(folder.path() / "i.npy", NpyType::UInt8, {2, 3}).value();
    const std::array<std::uint8_t, 12> two{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    REQUIRE(images.append<std::uint8_t>(two).has_value());
    REQUIRE(images.close().has_value());
    auto none = NpyWriter::create(folder.path() / "n.npy", NpyType::Int64, {}).value();
    REQUIRE(none.close().has_value());
    CHECK_FALSE(NpyWriter::create(folder.path() / "n.npy", NpyType::Int64, {}).has_value());
  }
  const auto images = NpyColumn::open(folder.path() / "i.npy");
  REQUIRE(images.has_value());
  CHECK(images->shape() == std::vector<std::uint64_t>{2, 2, 3});
  CHECK(images->as<std::uint8_t>()[11] == 12);
  CHECK(NpyColumn::open(folder.path() / "n.npy")->as<std::int64_t>().empty());
}

TEST_CASE("headers as NumPy writes them are read") {
  const auto header =
      parse_npy(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }", ""));
  REQUIRE(header.has_value());
  CHECK(header->type == NpyType::Float32);
  CHECK(header->shape == std::vector<std::uint64_t>{3, 4});
  CHECK(header->elements == 12);
  CHECK(
      parse_npy(file_of("{'descr': '<i8', 'fortran_order': False, 'shape': (7,)}", "", 2))->shape ==
      std::vector<std::uint64_t>{7});
}

TEST_CASE("what is no column of ours is refused") {
  CHECK(why_not("").contains("no such file"));
  CHECK(why_not(file_of("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", ""))
            .contains("pickles"));
  CHECK(why_not(file_of("{'descr': '>f8', 'fortran_order': False, 'shape': (3,), }", ""))
            .contains(">f8"));
  CHECK(why_not(file_of("{'descr': '<f8', 'fortran_order': True, 'shape': (3,), }", ""))
            .contains("order"));
  CHECK(why_not(file_of("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", ""))
            .contains("single value"));
  CHECK(why_not(file_of("{'descr': '<f8', 'fortran_order': False, "
                        "'shape': (4294967296, 4294967296), }",
                        ""))
            .contains("too large"));
  CHECK(why_not(file_of("{'descr': '<f8', 'shape': (3,), }", "")).contains("not whole"));
  CHECK(why_not(file_of("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (3,), }", ""))
            .contains("type"));
  std::string cut = file_of("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", "");
  CHECK(why_not(cut.substr(0, 40)).contains("cut"));
  cut[6] = 3;
  CHECK(why_not(cut).contains("version"));
}

TEST_CASE("a file that is shorter or longer than it says is refused by name") {
  const TempDir folder = TempDir::create().value();
  const std::string_view header = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }";
  for (const std::size_t length : {0UL, 23UL, 25UL}) {
    const Path path = folder.path() / "c1.npy";
    REQUIRE(write_file_durably(path, file_of(header, std::string(length, 'x'))).has_value());
    const auto column = NpyColumn::open(path);
    REQUIRE_FALSE(column.has_value());
    CHECK(column.error().message.contains("c1.npy"));
    CHECK(column.error().message.contains("length"));
  }
}
