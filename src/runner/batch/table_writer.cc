#include "runner/batch/table_writer.h"

#include <arrow/type.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <set>
#include <utility>

#include "core/reason.h"

namespace mayfly {

std::shared_ptr<arrow::Schema> schema_of(const std::vector<KeptField>& fields) {
  std::vector<std::shared_ptr<arrow::Field>> columns;
  for (const KeptField& field : fields) columns.push_back(arrow::field(field.name, field.type));
  return arrow::schema(std::move(columns));
}

Result<std::unique_ptr<TableWriter>> create_table(const Path& path, TableFormat format,
                                                  const std::vector<KeptField>& fields) {
  std::set<std::string> names;
  for (const KeptField& field : fields) {
    if (!names.insert(field.name).second) {
      return refuse(reason::kInvalidInput,
                    fmt::format("the output would have two columns '{}': keep fewer of the input's",
                                field.name.substr(0, 100)));
    }
  }
  if (format == TableFormat::Parquet) return create_parquet(path, schema_of(fields));
  return create_text(TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644)), format, fields);
}

}  // namespace mayfly
